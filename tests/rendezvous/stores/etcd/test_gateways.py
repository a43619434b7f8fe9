"""What stands between a node and its etcd, and does not behave like etcd."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import pytest
from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.stores.etcd import v3_watch
from elrun.rendezvous.stores.etcd.failover import AnswerTime
from elrun.rendezvous.stores.etcd.server import EtcdServer
from etcd_kit import EtcdClients
from gateway_kit import CLOSE, HANG, HOLD_WATCHES, Between, page

pytestmark = pytest.mark.integration

LONG_S = 30
BUSY = page(503, b"upstream connect error", "text/plain")
BAD_GATEWAY = page(502)


@pytest.fixture(name="opened")
def _opened():
    """Collect what a test opens, to close it at its end."""
    opened = []
    yield opened
    for each in opened:
        each.close()


@pytest.fixture(name="reach")
def _reach(etcd_server, numbers, opened):
    """Return what connects a store, by way of what stands before the real etcd."""
    prefix = f"/between-{next(numbers)}/"

    def reach(*endpoints, **options):
        clients = EtcdClients("etcd-v3", ",".join(endpoints), prefix)
        opened.append(clients)
        return clients.connect(**options)

    reach.real = etcd_server.get_endpoint()
    return reach


def set_while_waiting(store, key):
    """Let one thread wait for a key that another one then writes; return what the first gets."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.wait, [key], LONG_S)
        store.wait(["never"], 0.3)
        store.set({key: b"1"})
        return waiting.result(LONG_S)


def bear_a_busy_machine(store):
    """Let a member have its time, so that no request is made twice."""
    for gateway in store._clients:
        gateway.answer_time = AnswerTime(LONG_S)


@pytest.mark.parametrize("answer", [BUSY, BAD_GATEWAY, CLOSE], ids=["503", "502", "close"])
def test_a_gateway_that_is_busy_is_asked_again(reach, answer):
    """Text or page, or no word at all: a moment later it serves."""
    with Between(reach.real, lambda _, number: answer if number % 3 else None) as busy:
        store = reach(busy.endpoint)

        assert (1, [b"1"]) == (store.add("n", 1), set_while_waiting(store, "k"))


WRONG = {
    "html": (page(200), "answers with text/html .HTTP status 200. instead of etcd's JSON"),
    "a missing page": (page(404), "answers with text/html .HTTP status 404."),
    "nothing": (page(200, b"", "application/json"), "instead of etcd's JSON"),
    "a list": (page(200, b"[1]", "application/json"), "instead of etcd's JSON"),
    "a redirect": (page(307, location="https://there:1/"), "its clients to https://there:1/: give"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n", "does not speak HTTP"),
    "no size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "not speak HTTP"),
}


@pytest.mark.parametrize(("answer", "sentence"), WRONG.values(), ids=WRONG)
def test_what_is_no_etcd_is_named(reach, answer, sentence):
    """The sentence says what answers there, and comes after the time for joining at the latest."""
    with Between(reach.real, lambda *_: answer) as wrong:
        clients = EtcdClients("etcd-v3", wrong.endpoint)
        store = clients.store("etcd", clients.clients(), "run")

        with pytest.raises(RendezvousConnectionError, match=sentence):
            store.open(join_timeout_s=0.2)
        store.close()


@pytest.mark.parametrize("answer", [page(200), page(404), page(301), BUSY, HANG])
def test_a_wrong_member_does_not_hide_a_right_one(reach, answer):
    """Each is asked before the store counts as lost."""
    with Between(reach.real, lambda *_: answer) as wrong:
        store = reach(wrong.endpoint, reach.real)

        assert [b"1"] == set_while_waiting(store, "k")


def test_a_connection_that_ends_after_each_answer_costs_nothing(reach):
    """A kept connection that turns out to be closed is replaced, within one request."""
    with Between(reach.real, after=CLOSE) as closing:
        store = reach(closing.endpoint, patience_s=0)
        bear_a_busy_machine(store)
        numbers = [store.add("n", 1) for _ in range(5)]

        assert ([1, 2, 3, 4, 5], [b"1"]) == (numbers, set_while_waiting(store, "k"))


def test_a_proxy_that_holds_a_watch_back_is_got_around(reach, caplog):
    """The keys are read, twice a second, and one warning says so."""
    with Between(reach.real, lambda path, _: HOLD_WATCHES) as gathering:
        store = reach(gathering.endpoint)

        assert [b"1"] == set_while_waiting(store, "k")
        assert [b"1"] == set_while_waiting(store, "l")
        assert 1 == caplog.text.count("watch is held up")


def test_a_member_that_stood_still_is_no_proxy(reach, caplog, monkeypatch):
    """As a process that was suspended: it confirms the watch as soon as it answers a request."""
    monkeypatch.setattr(v3_watch, "_HELD_UP_S", LONG_S)
    goes_on = threading.Event()

    def note(path, _):
        if path.endswith("kv/range") and any(each.endswith("watch") for each in still.paths):
            goes_on.set()

    with Between(reach.real, note, cut=lambda _: not goes_on.wait(LONG_S)) as still:
        store = reach(still.endpoint)

        assert [b"1"] == set_while_waiting(store, "k")
        assert goes_on.is_set()
        assert "watch is held up" not in caplog.text


def test_a_watch_that_falls_silent_is_not_trusted(reach):
    """As behind a router that has forgotten an idle connection: the keys are read now and then."""
    with Between(reach.real, cut=lambda data: b'"kv"' in data) as forgetful:
        store = reach(forgetful.endpoint, pulse_s=0.5)

        assert [b"1"] == set_while_waiting(store, "k")


def test_a_member_that_answers_byte_by_byte_is_passed_over(reach):
    """The time for an answer is for all of it."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    with Between(reach.real, lambda *_: head) as slow:
        store = reach(slow.endpoint, reach.real)
        began_at = time.monotonic()
        store.set({"k": b"1"})

        assert ([b"1"], True) == (store.get(["k"]), time.monotonic() - began_at < LONG_S)


def test_waiting_again_for_the_same_key_costs_no_request(reach):
    """A deputy looks up every two seconds, and its watch goes on meanwhile."""
    with Between(reach.real) as counting:
        store = reach(counting.endpoint)
        bear_a_busy_machine(store)
        while not store._watcher._is_live(["k"]):
            store.wait(["k"], 0.1)
        before = len(counting.paths)
        results = [store.wait(["k"], 0.01) for _ in range(100)]
        asked = len(counting.paths) - before
        reach(reach.real).set({"k": b"1"})

        # The lease is refreshed now and then, whatever waits.
        assert ([None] * 100, True) == (results, asked < 50)
        assert [b"1"] == store.wait(["k"], LONG_S)


def test_many_waits_are_served_by_one_thread(reach, caplog):
    """Each has a stream; none is held up by another one."""
    before = set(threading.enumerate())
    with Between(reach.real) as counting, ThreadPoolExecutor(50) as pool:
        store = reach(counting.endpoint)
        bear_a_busy_machine(store)
        told = SimpleQueue()
        for n in range(20):
            store.watch([f"k{n}"], told.put)
        waiting = [pool.submit(store.wait, [f"k{n}", "last"], LONG_S) for n in range(20)]
        store.wait(["never"], 0.5)
        mine = {each.name for each in set(threading.enumerate()) - before}
        store.set({f"k{n}": b"%d" % n for n in range(20)})
        store.set({"last": b"l"})

        assert [[b"%d" % n, b"l"] for n in range(20)] == [each.result(LONG_S) for each in waiting]
        assert {b"%d" % n for n in range(20)} == {told.get(timeout=LONG_S)[0] for n in range(20)}
        ours = {name for name in mine if name.startswith("elrun-")}
        assert ({"elrun-etcd"}, "") == (ours, caplog.text)


def test_an_etcd_that_is_stopped_and_goes_on_loses_no_event(tmp_path, opened):
    """Its streams are opened anew, each from the first revision that it has not reported."""
    with EtcdServer(v2=False, data_dir=str(tmp_path)) as server:
        clients = EtcdClients("etcd-v3", server.get_endpoint())
        opened.append(clients)
        store = clients.connect()
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(store.wait, ["a", key], LONG_S) for key in "bc"]
            store.wait(["never"], 0.2)
            store.set({"a": b"1"})
            store._break_off()
            store.set({"b": b"2"})
            store._break_off()
            store.set({"c": b"3"})

            assert [[b"1", b"2"], [b"1", b"3"]] == [each.result(LONG_S) for each in waiting]
