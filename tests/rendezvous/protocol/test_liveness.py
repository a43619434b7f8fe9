"""Nodes that fall silent: whole rounds over the store in memory, with short hearts."""

from dataclasses import replace

import pytest
from elrun.rendezvous.api.handler import Verdict, VerdictKind
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.errors import RendezvousGracefulExitError
from elrun.rendezvous.liveness.member_watch import silence_reason
from elrun.rendezvous.liveness.peers import check_presence
from elrun.rendezvous.protocol.keys import RunKeys
from elrun.rendezvous.protocol.records import History, Limits, Member, Node, Origin, Roster
from elrun.rendezvous.protocol.roster import draw_roster, restarts_after
from elrun.rendezvous.protocol.timing import timing_of
from round_kit import PATIENCE_S, failed

RUN = RunKeys("run")
LIVELY = {"heartbeat_s": 0.05, "patience_s": 0.5}


def fall_silent(*nodes):
    """Stop the hearts of nodes: they neither beat nor listen, as if their machines stood still."""
    for node in nodes:
        node.handler._heartbeat.stop()


def until_beat(store, key):
    """Return after the next beat at a key."""
    before = store.get([key])
    while store.get([key]) == before:
        assert not store.wait(["no such key"], LIVELY["heartbeat_s"])


def until_silent(node, key):
    """Return once a node has heard nothing from there for too long."""
    while key not in node.handler._heartbeat.silent():
        assert not node.store.wait(["no such key"], LIVELY["heartbeat_s"])


@pytest.mark.parametrize("silent", [(0,), (1,), (2,), (0, 1), (1, 2)])
def test_members_that_fall_silent_are_lost(memory_job, memory, silent):
    """Whoever they are, one verdict names them, and all others read it."""
    nodes = memory_job.running(4, (1, 4), **LIVELY)
    fall_silent(*(nodes[rank] for rank in silent))
    (verdict,) = {node.await_verdict().lost for node in nodes}
    kind, reason = nodes[3].handler.verdict().kind, nodes[3].handler.verdict().reason

    assert (silent, VerdictKind.NODE_LOST) == (verdict, kind)
    assert f"(group rank {silent[0]})" in reason
    assert "not been heard of for 0.5 s" in reason


def test_survivors_go_on_at_once_and_at_no_cost(memory_job):
    """They don't wait for the lost one, keep their order, and spend no restart."""
    nodes = memory_job.running(3, (2, 3), **LIVELY)
    fall_silent(nodes[1])
    for node in nodes:
        node.await_verdict()
    places = memory_job.rendezvous([nodes[0], nodes[2]])

    assert [(0, 2, 0), (1, 2, 0)] == [
        (place.group_rank, place.group_world_size, place.restart_count) for place in places
    ]


def test_a_node_that_was_thought_lost_comes_back_as_a_newcomer(memory_job):
    """It reads the verdict when it wakes, and asks the running round for a place."""
    first, second, third = memory_job.running(3, (2, 3), **LIVELY)
    fall_silent(first)
    second.await_verdict()
    third.await_verdict()
    memory_job.rendezvous([second, third])
    kind = first.await_verdict().kind
    coming = first.join()
    kinds = [kind, second.await_verdict().kind, third.await_verdict().kind]
    places = [*memory_job.rendezvous([second, third]), coming.result(PATIENCE_S).placement]

    assert [VerdictKind.NODE_LOST, *[VerdictKind.NODE_WAITING] * 2] == kinds
    assert [0, 1, 2] == [place.group_rank for place in places]


def test_a_dead_survivor_is_not_waited_for(memory_job):
    """A worker's failure that came with a lost node: the others form a round without it, free."""
    first, second, third = memory_job.running(3, (2, 3), **LIVELY)
    fall_silent(third)
    first.handler.conclude(failed(0))
    second.await_verdict()
    places = memory_job.rendezvous([first, second])

    assert [(2, 0)] * 2 == [(place.group_world_size, place.restart_count) for place in places]


def test_a_member_that_is_slow_to_come_back_is_waited_for(memory_job, memory):
    """Its heartbeat beats while it stops its workers."""
    first, second = memory_job.running(2, (1, 2), **LIVELY)
    first.handler.conclude(failed(0))
    coming = first.join()
    until_beat(memory, RUN.round(0).beat(1))
    places = [*memory_job.rendezvous([second]), coming.result(PATIENCE_S).placement]

    assert {(2, 1)} == {(place.group_world_size, place.restart_count) for place in places}


def test_a_spare_begins_anew_when_all_members_are_gone(memory_job):
    """At once or one after the other: the next round lacks them all, and costs no restart."""
    nodes = memory_job.running(2, (2, 2), **LIVELY)
    spares = [memory_job.node((2, 2), **LIVELY).join() for _ in range(2)]
    fall_silent(*nodes)
    places = [join.result(PATIENCE_S).placement for join in spares]
    verdict = nodes[0].await_verdict()

    assert (VerdictKind.NODE_LOST, (0, 1)) == (verdict.kind, verdict.lost)
    assert {(1, 2, 0)} == {(p.round, p.group_world_size, p.restart_count) for p in places}


def test_a_spare_notices_that_a_node_alone_is_gone(memory_job):
    """Nobody else would."""
    (node,) = memory_job.running(1, (1, 1), **LIVELY)
    spare = memory_job.node((1, 1), **LIVELY).join()
    fall_silent(node)

    assert 1 == spare.result(PATIENCE_S).placement.round
    assert "(group rank 0) has not been heard of" in node.await_verdict().reason


def test_a_spare_leaves_it_to_the_members_to_miss_one_of_them(memory_job, memory):
    """The first may have finished and gone: while another one lives, the round goes on."""
    first, second = memory_job.running(2, (2, 2), **LIVELY)
    first.handler.arrive()
    fall_silent(first)
    waiting = memory_job.node((2, 2), **LIVELY)
    spare = waiting.join()
    until_silent(waiting, RUN.round(0).beat(0))
    for _ in range(3 * round(LIVELY["patience_s"] / LIVELY["heartbeat_s"])):
        assert not second.store.wait([RUN.round(0).verdict], LIVELY["heartbeat_s"])
    second.handler.arrive()

    with pytest.raises(RendezvousGracefulExitError):
        spare.result(PATIENCE_S)


def test_a_spare_ends_a_run_whose_members_finished_and_are_gone(memory_job, memory):
    """The last to finish died before it could say that all have."""
    nodes = memory_job.running(2, (2, 2), **LIVELY)
    spare = memory_job.node((2, 2), **LIVELY).join()
    fall_silent(*nodes)
    memory.set({RUN.round(0).success(rank): b"1" for rank in range(2)})

    with pytest.raises(RendezvousGracefulExitError):
        spare.result(PATIENCE_S)


def test_members_that_have_finished_may_fall_silent(memory_job):
    """The round can do without them, and ends well."""
    first, second, third = memory_job.running(3, (3, 3), **LIVELY)
    first.handler.arrive()
    fall_silent(first)
    until_silent(second, RUN.round(0).beat(0))
    second.handler.arrive()
    third.handler.arrive()

    assert {VerdictKind.DONE} == {node.await_verdict().kind for node in (first, second, third)}


def test_a_run_is_done_although_the_last_to_finish_could_not_say_so(memory_job, memory):
    """It had left its mark, and was counted; those who miss it say that all is done."""
    nodes = memory_job.running(3, (3, 3), **LIVELY)
    nodes[0].handler.arrive()
    nodes[1].handler.arrive()
    memory.set({RUN.round(0).success(2): b"1"})
    fall_silent(nodes[2])

    assert {VerdictKind.DONE} == {node.await_verdict().kind for node in nodes}


def test_one_that_has_finished_does_not_hide_the_loss_of_another(memory_job, memory):
    """The last one listens to a node that may be silent: then it listens to all."""
    nodes = memory_job.running(3, (3, 3), **LIVELY)
    nodes[1].handler.arrive()
    fall_silent(*nodes[:2])
    verdict = nodes[2].await_verdict()

    assert (VerdictKind.NODE_LOST, (0,)) == (verdict.kind, verdict.lost)


def test_a_lost_spare_does_not_take_a_place(memory_job):
    """The node that seals waits for another one instead."""
    first = memory_job.node((3, 3), **LIVELY)
    joins = [first.join()]
    first.store.wait([RUN.round(0).node(0)], PATIENCE_S)
    ghost = memory_job.node((3, 3), **LIVELY)
    ghost.join()
    first.store.wait([RUN.round(0).node(1)], PATIENCE_S)
    fall_silent(ghost)
    while not first.handler._heartbeat.silent():
        assert not first.store.wait(["no such key"], LIVELY["heartbeat_s"])
    joins += [memory_job.node((3, 3), **LIVELY).join() for _ in range(2)]
    sizes = [join.result(PATIENCE_S).placement.group_world_size for join in joins]

    assert [3, 3, 3] == sizes


def test_a_deputy_takes_the_place_of_a_sealer_that_dies(memory_job, memory):
    """It need not wait for those, either, of whom nothing is heard."""
    options = {**LIVELY, "deputy_s": 60, "last_call_s": 0.1, "survivor_s": 3600}
    nodes = memory_job.running(4, (2, 4), **options)
    nodes[0].handler.conclude(failed(0))
    for node in nodes:
        node.await_verdict()
    nodes[0].join()
    memory.wait([RUN.round(1).node(0)], PATIENCE_S)
    second = nodes[1].join()
    memory.wait([RUN.round(1).node(1)], PATIENCE_S)
    fall_silent(nodes[0], nodes[3])  # one that sits on seat 0, and one on its way
    third = nodes[2].join()
    places = [join.result(PATIENCE_S).placement for join in (second, third)]

    assert [(0, 2, 0), (1, 2, 0)] == [
        (place.group_rank, place.group_world_size, place.restart_count) for place in places
    ]


# What the sealing node makes of silence.


def node(host, origin=None):
    return Node(host, "::1", 1, 1, "default", Limits(1, 3), origin and Origin(*origin))


def history(*hosts, kind=VerdictKind.WORKER_FAILED, lost=()):
    members = tuple(Member(seat, node(host)) for seat, host in enumerate(hosts))
    return History(Roster(0, 0, 0, Limits(1, 3), members), Verdict(kind, lost=lost))


class Ear:
    """A heartbeat that has heard enough."""

    def __init__(self, *silent):
        self._silent = frozenset(silent)
        self.listens_to = []

    def watch(self, keys):
        self.listens_to = sorted(keys)

    def silent(self):
        return self._silent & set(self.listens_to)


KEYS = RUN.round(1)
BEFORE = RUN.round(0)


def test_the_sealer_listens_to_all_that_count():
    """To the others that sit there, and to survivors that have not come."""
    ear = Ear()
    seated = {0: node("a", (0, 0)), 1: node("d"), 2: replace(node("e"), is_withdrawn=True)}
    alive = check_presence(ear, RUN, 1, 0, seated, history("a", "b", "c", lost=(2,)))

    assert [BEFORE.beat(1), KEYS.seat_beat(1)] == ear.listens_to
    assert (seated, True) == (alive.seated, alive.may_change_soon)


def test_a_silent_seat_counts_as_left():
    """Its record is there, its node is not."""
    alive = check_presence(Ear(KEYS.seat_beat(1)), RUN, 1, 0, {0: node("a"), 1: node("b")}, None)

    assert {0: False, 1: True} == {seat: n.is_withdrawn for seat, n in alive.seated.items()}


def test_a_silent_survivor_counts_as_lost():
    """The round need not wait for it."""
    alive = check_presence(
        Ear(BEFORE.beat(1)), RUN, 1, 0, {0: node("a", (0, 0))}, history("a", "b", "c", lost=(2,))
    )

    assert ((2, 1), False) == (alive.history.verdict.lost, alive.may_change_soon)


def test_a_failure_that_came_with_a_lost_node_is_free():
    """The peers of a node that dies fail at once."""
    assert 0 == restarts_after(history("a", "b", lost=(1,)))


def test_a_survivor_of_an_earlier_round_goes_after_those_of_the_last():
    """A node that was away must not take the place of one that was there."""
    past = history("a", "b", "c")
    past = replace(past, roster=replace(past.roster, round=3))
    late, *others = [node("d", (1, 0)), *(node(host, (3, n)) for n, host in enumerate("abc"))]
    drawn = draw_roster(4, 0, dict(enumerate([late, *others])), past, mine=Limits(1, 3))

    assert ["a", "b", "c"] == [member.node.host for member in drawn.members]


def test_the_sentence_names_hosts_and_ranks():
    """People look for a machine, not for a number."""
    roster = history("node1", "node2", "node3").roster

    assert "node2 (group rank 1) has not been heard of for 2 s" == silence_reason([1], roster, 2)
    assert "node2 (group rank 1) and node3 (group rank 2) have not been heard of for 2 s" == (
        silence_reason([1, 2], roster, 2)
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (0.5, 2)),
        ({"heartbeat_interval": "2"}, (2, 8)),
        ({"heartbeat_patience": "5"}, (0.5, 5)),
        ({"heartbeat_interval": "0.1", "heartbeat_patience": "0.2"}, (0.1, 0.2)),
    ],
)
def test_interval_and_patience_can_be_set(settings, expected):
    """A longer interval alone brings its patience along."""
    timing = timing_of(RendezvousParameters("c10d", "", "run", 1, 1, **settings))

    assert expected == (timing.heartbeat_s, timing.patience_s)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"heartbeat_interval": "0"}, "heartbeat_interval=0"),
        ({"heartbeat_patience": "0.9"}, "at least twice"),
        ({"heartbeat_interval": "often"}, "heartbeat_interval=often"),
    ],
)
def test_a_patience_that_one_lost_beat_exhausts_is_refused(settings, words):
    """The message names the setting."""
    with pytest.raises(ValueError, match=words):
        timing_of(RendezvousParameters("c10d", "", "run", 1, 1, **settings))
