"""Waits for signed values, over a store whose waits need no thread of their own."""

import queue
import threading

import pytest
from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.stores import signed
from elrun.rendezvous.stores.server.server import StoreServer
from elrun.rendezvous.stores.signed import Secret, signed_view
from elrun.rendezvous.threads import NoThreadError
from round_kit import PATIENCE_S, AllGuests, ServerClients

SECRET = Secret(b"open sesame")


@pytest.fixture(name="plain")
def _plain():
    """Return a client of a store server that knows no secret."""
    server = StoreServer(AllGuests(), "here")
    server.start()
    store = ServerClients(server).connect()
    yield store
    store.close()
    server.close()


@pytest.fixture(name="store")
def _store(plain):
    return signed_view(plain, SECRET)


@pytest.fixture(name="heard")
def _heard():
    return queue.SimpleQueue()


@pytest.fixture(name="looks")
def _looks(monkeypatch):
    """Return a queue of the threads that look at forged values."""
    looks = queue.SimpleQueue()
    begin = threading.Thread.start

    def start(thread):
        begin(thread)
        if thread.name == "elrun-wait":
            looks.put(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    monkeypatch.setattr(signed, "_LOOK_AGAIN_S", 0.01)
    return looks


def test_a_signed_value_ends_a_watch_without_a_thread(store, heard, looks):
    store.watch(["k", "l"], heard.put)
    store.set({"l": b"2", "k": b"1"})

    assert [b"1", b"2"] == heard.get(timeout=PATIENCE_S)
    assert looks.empty()


def test_a_watch_goes_on_past_a_forgery(store, plain, heard, looks):
    """It ends with the true value, however the key was filled before."""
    plain.set({"k": b"forged"})
    store.watch(["k"], heard.put)
    look = looks.get(timeout=PATIENCE_S)
    look.join(0.1)  # it looks several times
    assert look.is_alive()
    store.set({"k": b"true"})

    assert [b"true"] == heard.get(timeout=PATIENCE_S)


def test_a_watch_that_was_taken_back_reports_nothing(store, heard, looks):
    take_back = store.watch(["k"], heard.put)

    assert (True, False) == (take_back(), take_back())
    store.set({"k": b"true"})
    store.add("n", 1)  # its answer comes after what a watch would have reported

    assert heard.empty()
    assert looks.empty()


def test_a_watch_that_was_taken_back_looks_at_a_forgery_no_more(store, plain, heard, looks):
    plain.set({"k": b"forged"})
    take_back = store.watch(["k"], heard.put)
    look = looks.get(timeout=PATIENCE_S)
    assert take_back()
    store.set({"k": b"true"})
    look.join()
    store.add("n", 1)  # its answer comes after what the look may have asked for
    while not looks.empty():
        looks.get().join()

    assert heard.empty()


def test_a_watch_that_has_reported_cannot_be_taken_back(store, heard):
    store.set({"k": b"true"})
    take_back = store.watch(["k"], heard.put)

    assert [b"true"] == heard.get(timeout=PATIENCE_S)
    assert not take_back()


@pytest.mark.parametrize("is_forged", [False, True], ids=["missing", "forged"])
def test_a_store_that_is_closed_ends_its_watches(store, plain, heard, looks, is_forged):
    """Once, and with the reason."""
    if is_forged:
        plain.set({"k": b"forged"})
    store.watch(["k"], heard.put)
    if is_forged:
        looks.get(timeout=PATIENCE_S)
    store.close()

    assert isinstance(heard.get(timeout=PATIENCE_S), RendezvousConnectionError)
    assert heard.empty()


def test_a_forgery_without_a_thread_to_look_again_ends_the_watch(store, plain, heard, monkeypatch):
    """The node tells why it can't wait, and does not wait without end."""
    plain.set({"k": b"forged"})

    def start(_):
        raise RuntimeError

    monkeypatch.setattr(threading.Thread, "start", start)
    store.watch(["k"], heard.put)

    assert isinstance(heard.get(timeout=PATIENCE_S), NoThreadError)


class OddStore:
    """Reports fewer values than it was asked for."""

    def watch(self, keys, hear):
        hear([b"1"])
        return lambda: False


def test_what_is_no_answer_to_a_watch_is_an_error_for_its_hearer(heard):
    """The thread that reports it goes on."""
    signed_view(OddStore(), SECRET).watch(["k", "l"], heard.put)

    assert isinstance(heard.get(timeout=PATIENCE_S), ValueError)


def test_a_store_without_watches_has_none_when_it_is_signed(memory):
    """Its waits have threads of their own, as they have without a secret."""
    assert not hasattr(signed_view(memory.connect(), SECRET), "watch")
