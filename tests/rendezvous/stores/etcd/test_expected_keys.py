"""A node that has written its record waits for its place and the verdict, by one stream."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from elrun.rendezvous.errors import RendezvousRoundOverError
from elrun.rendezvous.protocol.freeing import ROUNDS_KEPT
from elrun.rendezvous.protocol.keys import RunKeys
from elrun.rendezvous.stores.etcd.v3_client import Gateway

pytestmark = pytest.mark.integration

LONG_S = 30
ROUND = RunKeys("expected").round(0)
LONG_NAME = RunKeys("a-run-id-" + "x" * 200).round(0)


class Counting(Gateway):
    """Notes what is asked of etcd."""

    def __init__(self, settings, endpoint):
        super().__init__(settings, endpoint)
        self.asked = []

    def post(self, path, body):
        self.asked.append(path)
        return super().post(path, body)

    def stream(self, path, text):
        self.asked.append(path)
        return super().stream(path, text)


class OneRange(Counting):
    """Hands etcd the first range of a watch only, as a server may that has begun to answer."""

    def stream(self, path, text):
        first, _ = json.JSONDecoder().raw_decode(text)
        return super().stream(path, json.dumps(first))


@pytest.fixture(name="other")
def _other(etcd_v3):
    return etcd_v3.connect()


def join(clients, kind=Counting, keys=ROUND):
    """Return a store whose node has just written its record, and the client that it uses."""
    (endpoint,) = clients.settings.endpoints
    client = kind(clients.settings, endpoint)
    store = clients.connect([client])
    client.asked.clear()
    store.create(keys.node(3), b"record")
    return store, client


def wait_for_both(store, other, keys=ROUND):
    """Wait for the place and then for the verdict, each of which is written meanwhile."""
    found = []
    with ThreadPoolExecutor(1) as pool:
        for key in (keys.place(3), keys.verdict):
            waiting = pool.submit(store.wait, [key], LONG_S)
            # Another wait begins in between; its read comes after that of the first, if any.
            other.wait([key], 0.2)
            other.set({key: b"v"})
            found += waiting.result(LONG_S)
    return found


def test_a_round_costs_a_node_one_transaction_and_one_stream(etcd_v3, other):
    """Neither wait reads: the transaction of the record has, and the stream reports both keys."""
    store, client = join(etcd_v3)

    assert [b"v", b"v"] == wait_for_both(store, other)
    assert ["kv/txn", "watch"] == client.asked


def test_what_was_written_before_the_wait_is_found(etcd_v3, other):
    """The stream begins at the revision of the record."""
    store, _ = join(etcd_v3)
    other.set({ROUND.place(3): b"p"})
    other.set({ROUND.verdict: b"v"})

    assert [[b"p"], [b"v"]] == [store.wait([k], LONG_S) for k in (ROUND.place(3), ROUND.verdict)]


def test_what_was_there_before_the_record_is_found(etcd_v3, other):
    """A round may have ended before its node has written the record."""
    other.set({ROUND.place(3): b"p", ROUND.verdict: b"v"})
    store, _ = join(etcd_v3)

    assert [[b"p"], [b"v"]] == [store.wait([k], LONG_S) for k in (ROUND.place(3), ROUND.verdict)]


def test_a_range_that_etcd_has_not_confirmed_is_not_relied_on(etcd_v3, other):
    """The verdict then has a stream of its own."""
    store, client = join(etcd_v3, OneRange)

    assert [b"v", b"v"] == wait_for_both(store, other)
    assert ["kv/txn", "watch", "kv/txn", "watch"] == client.asked


def test_a_request_that_etcd_may_not_read_whole_has_one_range(etcd_v3, other):
    """Go's reader takes 512 bytes at once; a long run id needs more."""
    store, client = join(etcd_v3, keys=LONG_NAME)

    assert [b"v", b"v"] == wait_for_both(store, other, LONG_NAME)
    assert ["kv/txn", "watch", "kv/txn", "watch"] == client.asked


def test_a_stream_that_breaks_loses_nothing(etcd_v3, other):
    """It is opened anew while the node waits for its place, or between the two waits."""
    store, _ = join(etcd_v3)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.wait, [ROUND.place(3)], LONG_S)
        other.wait([ROUND.place(3)], 0.2)
        store._break_off()
        other.set({ROUND.place(3): b"p"})
        place = waiting.result(LONG_S)
        store._break_off()
        waiting = pool.submit(store.wait, [ROUND.verdict], LONG_S)
        store._break_off()
        other.set({ROUND.verdict: b"v"})

        assert ([b"p"], [b"v"]) == (place, waiting.result(LONG_S))


def test_history_that_etcd_has_forgotten_is_read_instead(etcd_v3, other):
    """Whoever runs the etcd may compact it between the record and the wait."""
    store, _ = join(etcd_v3)
    other.set({ROUND.place(3): b"p"})
    (client,) = other._clients
    revision = client.post("kv/range", {"key": "AA=="})["header"]["revision"]
    client.post("kv/compaction", {"revision": revision, "physical": True})

    assert [b"p"] == store.wait([ROUND.place(3)], LONG_S)
    other.set({ROUND.verdict: b"v"})
    assert [b"v"] == store.wait([ROUND.verdict], LONG_S)


def test_other_waits_between_the_two_do_no_harm(etcd_v3, other):
    """A node may ask for a notice before it waits for the verdict."""
    store, _ = join(etcd_v3)
    other.set({ROUND.place(3): b"p", "notice": b"n"})
    waits = [[ROUND.place(3)], ["notice"]]
    found = [store.wait(keys, LONG_S) for keys in waits]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.wait, [ROUND.verdict], LONG_S)
        store.wait(["never"], 0.2)
        other.set({ROUND.verdict: b"v"})

        assert [[b"p"], [b"n"], [b"v"]] == [*found, waiting.result(LONG_S)]


def test_the_next_round_has_a_stream_of_its_own(etcd_v3, other):
    """The one that was opened for the verdict of the round before is closed."""
    store, client = join(etcd_v3)
    other.set({ROUND.place(3): b"p"})
    store.wait([ROUND.place(3)], LONG_S)
    after = RunKeys("expected").round(1)
    client.asked.clear()
    store.create(after.node(3), b"record")
    other.set({after.place(3): b"p"})

    assert [b"p"] == store.wait([after.place(3)], LONG_S)
    assert ["kv/txn", "watch"] == client.asked
    assert 1 == len({watch.stream for watch in store._watcher._streamed if watch.stream})


def test_a_node_that_was_held_up_for_many_rounds_is_too_late(etcd_v3, other):
    """Its round was freed between its record and its wait: it must not wait for ever."""
    store, _ = join(etcd_v3)
    other.set({ROUND.place(3): b"p", ROUND.verdict: b"v"})
    for number in range(ROUNDS_KEPT + 1):
        other.create(RunKeys("expected").round(number).roster, b"r")

    with pytest.raises(RendezvousRoundOverError, match="round 0 is over"):
        store.wait([ROUND.verdict], LONG_S)
