"""Rounds that nobody can need any more leave etcd, over both of its APIs."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from elrun.rendezvous.errors import RendezvousRoundOverError
from elrun.rendezvous.protocol.freeing import ROUNDS_KEPT, round_of
from elrun.rendezvous.protocol.keys import RunKeys
from elrun.rendezvous.stores.etcd.v3_client import decode, encode
from round_kit import PATIENCE_S, Job, failed

pytestmark = pytest.mark.integration

RUN = RunKeys("run")


@pytest.fixture(params=["etcd_v3", "etcd_v2"], name="clients")
def _clients(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(name="job")
def _job(clients):
    job = Job(clients.connect)
    yield job
    job.close()


def keys_in(clients):
    """Return the names of all keys of the test's part of etcd."""
    store = clients.opened[0]
    prefix = clients.prefix
    if hasattr(store, "_folder"):
        leaves, _ = store._list(prefix + store._folder)
        return sorted(
            leaf.key.removeprefix(f"{prefix}{store._folder}/").replace("~", "") for leaf in leaves
        )
    return keys_of_v3(store, prefix)


def keys_of_v3(store, prefix):

    name = prefix.encode()
    answer = store._ask(
        "kv/range",
        {"key": encode(name), "range_end": encode(name[:-1] + b"0"), "keys_only": True},
    )
    return sorted(decode(each["key"]).removeprefix(name).decode() for each in answer["kvs"])


def seal(store, number):
    """Write what nodes write in a round that fails."""
    keys = RUN.round(number)
    store.add(keys.seats, 1)
    store.create(keys.node(0), b"n")
    store.set({keys.seat_beat(0): b"1"})
    store.add(keys.seats, 1000)
    store.create(keys.roster, b"roster")
    store.set({keys.place(0): b"p", keys.beat(0): b"0", RUN.record: b"%d" % (number + 1)})
    store.create(keys.verdict, b"v")


def seal_some(store, count, first=0):
    for number in range(first, first + count):
        seal(store, number)


def test_a_hundred_rounds_leave_no_more_keys_than_ten(clients):
    """A job that restarts for weeks costs etcd as much as one that never does."""
    store = clients.connect()
    seal_some(store, 10)
    after_ten = len(keys_in(clients))
    seal_some(store, 90, first=10)
    names = keys_in(clients)

    assert after_ten == len(names)
    assert set(range(100 - ROUNDS_KEPT, 100)) == {
        int(name.split("/")[3]) for name in names if name.startswith("run/run/round/")
    }


def test_a_job_of_two_nodes_leaves_no_more_keys_after_thirty_rounds(job, clients):
    """As its agents go from round to round."""
    nodes = job.running(2, (2, 2), max_restarts=1000)
    counts = []
    for number in range(30):
        nodes[0].handler.conclude(failed())
        for node in nodes:
            node.await_verdict()
        job.rendezvous(nodes)
        if number in (10, 29):
            counts.append(len(keys_in(clients)))

    assert counts[0] == counts[1]


def test_what_a_late_node_writes_of_a_round_that_is_over_changes_nothing(clients):
    """It may not count, create or wait there, and its signs of life leave no key."""
    store = clients.connect()
    seal_some(store, 20)
    keys = RUN.round(3)
    before = keys_in(clients)
    for call in (
        lambda: store.add(keys.seats, 1),
        lambda: store.create(keys.verdict, b"v"),
        lambda: store.create(keys.roster, b"mine"),
        lambda: store.wait([keys.verdict], PATIENCE_S),
        lambda: store.wait([keys.verdict], 0),
    ):
        with pytest.raises(RendezvousRoundOverError, match="round 3 is over"):
            call()

    assert [None, None] == store.get([keys.verdict, keys.seats])
    assert (before, 0) == (keys_in(clients), store.add(keys.seats, 0))


def test_late_values_are_dropped_and_others_are_written(etcd_v3):
    """One request may have both."""
    store = etcd_v3.connect()
    seal_some(store, 20)
    late, live = RUN.round(3).beat(0), RUN.round(19).beat(0)
    store.set({late: b"7", live: b"7", "k": b"v"})

    assert [None, b"8", b"v"] == store.exchange({late: b"8", live: b"8"}, [late, live, "k"])


def test_a_round_is_freed_once_and_in_turn(clients):
    """A node that was held up while it made an old roster frees nothing that is needed."""
    store = clients.connect()
    seal_some(store, 20)
    store.create(RUN.round(40).roster, b"out of turn")

    assert [b"v"] == store.get([RUN.round(19).verdict])
    assert store.get([round_of(RUN.record + "/0/x").freed]) == [b"12"]


def test_another_run_and_rounds_with_longer_numbers_stay(clients):
    """Round 1 is freed, and rounds 10 to 16 are not."""
    store = clients.connect()
    other = RunKeys("run2").round(1).verdict
    store.set({other: b"o", RUN.record: b"r"})
    seal_some(store, 17)
    verdicts = [RUN.round(number).verdict for number in range(17)]

    assert [None] * 9 + [b"v"] * 8 == store.get(verdicts)
    assert [b"o"] == store.get([other])


def test_a_wait_for_a_round_that_is_freed_has_an_end(clients):
    """Its node was cut off, and has not seen what was written meanwhile."""
    store, other = clients.connect(pulse_s=0.3), clients.connect()
    seal(other, 0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.wait, [RUN.round(0).outcome(1), "never"], PATIENCE_S)
        store.wait(["nothing"], 0.2)
        seal_some(other, 12, first=1)

        with pytest.raises(RendezvousRoundOverError, match="round 0 is over"):
            waiting.result(PATIENCE_S)


def test_agents_that_come_and_go_leave_no_keys(clients):
    """Each agent's counting leaves a mark, which is freed with the round."""
    counts = []
    for number in range(30):
        seal(clients.connect(), number)
        if number in (10, 29):
            counts.append(len(keys_in(clients)))

    assert counts[0] == counts[1]
