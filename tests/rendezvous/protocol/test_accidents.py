"""Nodes that die at the worst moments, over the store in memory."""

import threading
from collections import Counter

import pytest
from elrun.rendezvous.api.handler import Verdict, VerdictKind
from elrun.rendezvous.errors import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousStateError,
)
from elrun.rendezvous.node.join import abort_run
from elrun.rendezvous.protocol.keys import RunKeys
from elrun.rendezvous.protocol.records import Limits, Node
from elrun.rendezvous.protocol.roster import void_roster
from elrun.rendezvous.protocol.round import DOOR
from elrun.rendezvous.protocol.wire import read_verdict, write_node, write_roster
from elrun.rendezvous.stores.steps import Asking, perform
from round_kit import PATIENCE_S, failed, placements

RUN = RunKeys("run")
ROUND_0, ROUND_1 = (RUN.round(number) for number in (0, 1))
GONE = Node("gone", "::1", 1, 1, "default", Limits(2, 2))


class DyingStore:
    """A connection whose node dies, that is blocks for good, before a chosen call."""

    def __init__(self, store, dies_before):
        self._store = store
        self._dies_before = dies_before
        self.has_died = threading.Event()

    def __getattr__(self, name):
        return getattr(self._store, name)

    def _call(self, name, *args):
        if self._dies_before(name, *args):
            self.has_died.set()
            threading.Event().wait()
        return getattr(self._store, name)(*args)

    def add(self, *args):
        return self._call("add", *args)

    def set(self, *args):
        return self._call("set", *args)

    def create(self, *args):
        return self._call("create", *args)


class HeldStore(DyingStore):
    """A connection whose node waits before a chosen call until another node has died there."""

    def __init__(self, store, waits_before, other):
        super().__init__(store, waits_before)
        self._other = other

    def _call(self, name, *args):
        if self._dies_before(name, *args):
            assert self._other.has_died.wait(PATIENCE_S)
        return getattr(self._store, name)(*args)


def at_the_door(name, *args):
    return name == "add" and args[1] == DOOR


def before_the_roster(name, *args):
    return name == "create" and args[0] == ROUND_0.roster


def before_the_places(name, *args):
    return name == "set" and ROUND_0.place(0) in args[0]


def before_its_record(name, *args):
    return name == "create" and args[0] == ROUND_0.node(0)


@pytest.mark.parametrize("moment", [at_the_door, before_the_roster, before_the_places])
def test_a_deputy_seals_when_the_sealer_dies(memory_job, memory, moment):
    """Wherever the sealer stops, the others get their places, and all the same ones."""
    store = DyingStore(memory.connect(), moment)
    memory_job.node((3, 3), store=store).join()
    memory.wait([ROUND_0.node(0)], PATIENCE_S)
    held = [HeldStore(memory.connect(), moment, store) for _ in range(2)]
    nodes = [memory_job.node((3, 3), store=each, deputy_s=0.05) for each in held]
    places = memory_job.rendezvous(nodes)

    assert store.has_died.is_set()
    assert {3} == {place.group_world_size for place in places}
    assert [1, 2] == sorted(place.group_rank for place in places)


def test_a_node_that_dies_before_its_record_takes_no_place(memory_job, memory):
    """A seat without a record is left out, after a short wait for it."""
    store = DyingStore(memory.connect(), before_its_record)
    memory_job.node((2, 2), store=store).join()
    assert store.has_died.wait(PATIENCE_S)
    nodes = memory_job.some(2, (2, 2), deputy_s=0.05, straggler_s=0.05)

    assert {0, 1} == {place.group_rank for place in memory_job.rendezvous(nodes)}


def test_a_seat_without_a_record_hides_no_other(memory_job, memory):
    """The first node finds who sits behind it by itself, however late its deputies look."""
    lively = {"heartbeat_s": 0.05, "patience_s": 0.5, "straggler_s": 0.05}
    first = memory_job.node((2, 2), **lively).join()
    memory.wait([ROUND_0.node(0)], PATIENCE_S)
    memory.add(ROUND_0.seats, 1)
    second = memory_job.node((2, 2), **lively).join()

    assert 2 == len(placements([first, second]))


def test_the_first_node_learns_that_a_deputy_has_sealed(memory_job, memory):
    """Although it counts too few nodes itself, since some have fallen silent or gone."""
    joining = memory_job.node((3, 3), heartbeat_s=0.05, patience_s=0.5).join()
    memory.wait([ROUND_0.node(0)], PATIENCE_S)
    memory.add(ROUND_0.seats, DOOR)
    memory.create(ROUND_0.roster, write_roster(void_roster(0, 1, None, mine=Limits(3, 3))))

    assert memory.wait([ROUND_1.node(0)], PATIENCE_S) is not None
    assert not joining.done()


def test_a_second_sealer_takes_its_place_before_it_is_missed(memory_job, memory):
    """It doesn't wait for stragglers once another one has sealed."""
    memory.add(ROUND_0.seats, 1)
    store = DyingStore(memory.connect(), lambda *_: False)

    def add_after_another(key, amount):
        if amount == DOOR:
            memory.add(key, DOOR)
            memory.create(ROUND_0.roster, write_roster(void_roster(0, 0, None, mine=Limits(1, 1))))
        return memory.add(key, amount)

    store.add = add_after_another
    memory_job.node((1, 1), store=store, deputy_s=0.05).join()

    assert memory.wait([ROUND_1.node(0)], PATIENCE_S) is not None


def test_the_standing_roster_settles_who_sealed(memory_job, memory):
    """A sealer that was only slow takes its place from the roster of its deputy."""
    go_on = threading.Event()
    slow = DyingStore(memory.connect(), lambda *_: False)
    create = slow.create

    def create_late(key, value):
        if key == ROUND_0.roster:
            go_on.wait(PATIENCE_S)
        return create(key, value)

    slow.create = create_late
    joining = memory_job.node((2, 2), store=slow).join()
    memory.wait([ROUND_0.node(0)], PATIENCE_S)
    deputy = memory_job.node((2, 2), deputy_s=0.05).join().result(PATIENCE_S).placement
    go_on.set()
    sealer = joining.result(PATIENCE_S).placement

    assert (2, {0, 1}) == (sealer.group_world_size, {sealer.group_rank, deputy.group_rank})
    assert sealer.workers_store == deputy.workers_store


def test_a_newcomer_voids_a_round_that_nobody_is_left_to_seal(memory_job, memory):
    """If all who could seal have died, the next ones start afresh in the next round."""
    memory.add(ROUND_0.seats, 1)
    memory.add(ROUND_0.seats, DOOR)
    nodes = memory_job.some(2, (2, 2), deputy_s=0.02)
    places = memory_job.rendezvous(nodes)
    (verdict,) = memory.get([ROUND_0.verdict])

    assert ([1, 1], VerdictKind.NODE_LOST) == (
        [place.round for place in places],
        read_verdict("", verdict).kind,
    )


def test_a_round_that_became_too_small_at_the_door_is_void(memory_job, memory):
    """Those who are still there go on to the next round, where another one may come."""
    gone = Node("gone", "::1", 1, 1, "default", Limits(2, 2), is_withdrawn=True)
    memory.add(ROUND_0.seats, 1)
    memory.set({ROUND_0.node(0): write_node(gone)})
    joining = memory_job.node((2, 2), deputy_s=0.02, straggler_s=0.02).join()
    memory.wait([ROUND_0.node(1)], PATIENCE_S)
    memory.add(ROUND_0.seats, DOOR)
    other = memory_job.node((2, 2), deputy_s=0.02).join()

    assert 2 == len(placements([joining, other]))


def test_a_node_that_leaves_too_late_says_so(memory_job, memory):
    """A roster that was drawn with it is ended at once, and names it as lost."""
    store = DyingStore(memory.connect(), lambda *_: False)
    store.wait = lambda keys, timeout_s: (
        threading.Event().wait() if ROUND_0.place(1) in keys else memory.wait(keys, timeout_s)
    )
    joining = memory_job.node((2, 2)).join()
    memory.wait([ROUND_0.node(0)], PATIENCE_S)
    leaver = memory_job.node((2, 2), store=store)
    leaver.join()
    joining.result(PATIENCE_S)
    leaver.handler.shutdown()
    verdict = memory_job.nodes[0].await_verdict()

    assert (VerdictKind.NODE_LOST, (verdict.by,)) == (verdict.kind, verdict.lost)


def test_survivors_do_not_wait_for_a_node_that_said_it_left(memory_job):
    """The next round seals at once without the lost one, whatever the last call is."""
    one, two, three = memory_job.running(3, (1, 3))
    three.handler.conclude(Verdict(VerdictKind.NODE_LOST, 2, "left", lost=(2,)))

    assert [2, 2] == [place.group_world_size for place in memory_job.rendezvous([one, two])]


def test_losing_the_store_wakes_and_is_told(memory_job, memory):
    """The agents are woken, and verdict() raises what happened."""
    nodes = memory_job.running(2, (2, 2))
    for node in nodes:
        node.changed.clear()
    memory.lose()

    for node in nodes:
        assert node.changed.wait(PATIENCE_S)
        with pytest.raises(RendezvousConnectionError, match="was lost"):
            node.handler.verdict()


def test_a_verdict_outlives_the_store(memory_job, memory):
    """What this node has read stays known."""
    (node,) = memory_job.running(1, (1, 1))
    node.handler.conclude(failed())
    memory.lose()

    assert failed() == node.handler.verdict()


def test_a_store_that_is_lost_makes_a_poor_farewell(memory_job, memory):
    """shutdown() reports that the others could not be told, and does not raise."""
    (node,) = memory_job.running(1, (1, 1))
    memory.lose()

    assert not node.handler.shutdown()


def test_a_run_may_be_closed_although_the_store_is_lost(memory_job, memory):
    """The failed job's own exit code must not be hidden by that."""
    (node,) = memory_job.running(1, (1, 1))
    memory.lose()
    node.handler.set_closed()

    assert node.handler.is_closed()


@pytest.mark.parametrize(("limits", "waiting", "written"), [((1, 100_000), 0, 0), ((2, 9), 1, 3)])
def test_the_end_of_a_run_empties_only_seats_that_somebody_waits_for(
    memory_job, memory, limits, waiting, written
):
    """A job of one node that could have had 100,000 ends at once."""
    nodes = memory_job.running(limits[0], limits, last_call_s=0.01)
    nodes[0].handler.conclude(failed())
    (joining,) = [nodes[0].join()] if waiting else [None]
    if joining:
        assert memory.wait([ROUND_1.node(0)], PATIENCE_S)
    other = GONE._replace(limits=Limits(*limits))
    aborted = Verdict(VerdictKind.ABORTED, reason="it is not needed any more")
    perform(abort_run(Asking(memory), RUN, other, aborted))
    seats = [ROUND_1.node(number) for number in range(limits[1] + 1)]

    assert written == sum(record is not None for record in memory.get(seats))
    if joining:
        with pytest.raises(RendezvousClosedError):
            joining.result(PATIENCE_S)


FOREIGN = {
    "no record": b"\x80\x04pickle",
    "another version": write_node(GONE).replace(b'"elrun":1', b'"elrun":2'),
    "a NUL in the address": write_node(GONE).replace(b'"::1"', b'"node\\u00001"'),
    "a lone surrogate in the address": write_node(GONE).replace(b'"::1"', b'"\\udcff"'),
    "a newline in the address": write_node(GONE).replace(b'"::1"', b'"a\\nb"'),
    "an empty address": write_node(GONE).replace(b'"::1"', b'""'),
    "port 0": write_node(GONE).replace(b'"port":1', b'"port":0'),
    "port 65536": write_node(GONE).replace(b'"port":1', b'"port":65536'),
    "too many workers": write_node(GONE).replace(b'"workers":1', b'"workers":2000000000'),
    "too many nodes": write_node(GONE).replace(b'"nodes":[2,2]', b'"nodes":[2,2000000000]'),
    "too many restarts": write_node(GONE).replace(b'"restarts":0', b'"restarts":2147483647'),
    "text for a number": write_node(GONE).replace(b'"workers":1', b'"workers":"1"'),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_node_whose_record_is_refused_is_not_taken(memory_job, memory, case, caplog):
    """It is named once, and those who are fit go on without it."""
    lively = {"heartbeat_s": 0.02, "patience_s": 0.2, "straggler_s": 0.05}
    assert FOREIGN[case] != write_node(GONE)
    first = memory_job.node((2, 2), **lively).join()
    memory.wait([ROUND_0.node(0)], PATIENCE_S)
    memory.set({ROUND_0.node(memory.add(ROUND_0.seats, 1) - 1): FOREIGN[case]})
    second = memory_job.node((2, 2), **lively).join()

    places = placements([first, second])
    refusals = [record for record in caplog.records if "is refused" in record.getMessage()]
    assert [(0, 2), (1, 2)] == sorted((each.group_rank, each.group_world_size) for each in places)
    assert ["run/run/round/0/node/1" in record.getMessage() for record in refusals] == [True]


def test_a_node_publishes_nothing_that_others_would_refuse(memory_job):
    """It is told what is wrong with its own record instead."""
    node = memory_job.node((1, 1), workers=1 << 20)

    with pytest.raises(RendezvousStateError, match="this node's own record: workers is 1048576"):
        node.join().result(PATIENCE_S)


def test_a_foreign_verdict_ends_the_round(memory_job, memory):
    """A round whose verdict can't be read can't be followed."""
    (node,) = memory_job.running(1, (1, 1))
    memory.set({ROUND_0.verdict: b"over"})

    with pytest.raises(RendezvousConnectionError, match="is no record"):
        node.await_verdict()


class CountingStore:
    def __init__(self, store, counts):
        self._store = store
        self._counts = counts

    def __getattr__(self, name):
        method = getattr(self._store, name)

        def counted(*args):
            if name != "close":
                self._counts[name] += 1
            return method(*args)

        return counted


@pytest.mark.parametrize(("restarts", "allowed"), [(0, 6), (1, 11)])
def test_a_round_costs_a_node_six_operations_at_most(memory_job, memory, restarts, allowed):
    """Counted over 64 nodes, the sealer's extra ones and the watcher's wait included.

    A further round costs less, as survivors know its number: at most 5, of which one is shared,
    namely the failing node's verdict.
    """
    counts = Counter()
    nodes = [
        memory_job.node((64, 64), store=CountingStore(memory.connect(), counts)) for _ in range(64)
    ]
    memory_job.rendezvous(nodes)
    for _ in range(restarts):
        nodes[0].handler.conclude(failed())
        for node in nodes:
            node.await_verdict()
        memory_job.rendezvous(nodes)

    assert sum(counts.values()) <= allowed * len(nodes)
