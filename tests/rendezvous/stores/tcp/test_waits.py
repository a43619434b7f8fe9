"""Waits in threads with connections of their own, and the threads that are kept for the next."""

import threading

import pytest
from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.stores.tcp.waits import Wait, Waits

PATIENCE_S = 30
LOST = RendezvousConnectionError("lost")
CLOSED = RendezvousConnectionError("closed")


class Server:
    """Answers each wait with the number of the connection that it came over, once it may."""

    def __init__(self):
        self.connections = []
        self.threads = []
        self.may_answer = threading.Event()
        self.error = None

    def connect(self):
        self.connections.append(len(self.connections))
        self.threads.append(threading.current_thread())
        return [self.connections[-1]]

    def block(self, connection, keys):
        self.may_answer.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        return [b"%d %s" % (connection[0], key.encode()) for key in keys]


@pytest.fixture(name="server")
def _server():
    return Server()


@pytest.fixture(name="waits")
def _waits(server):
    waits = Waits(server.connect, server.block)
    yield waits
    server.may_answer.set()
    waits.close(CLOSED, PATIENCE_S, PATIENCE_S)


def test_the_next_wait_has_the_thread_and_the_connection_of_the_last(server, waits):
    """A node that waits for one thing after the other needs one of each."""
    server.may_answer.set()
    told = [waits.begin([key]).result(PATIENCE_S) for key in ("place", "verdict")]

    assert [[b"0 place"], [b"0 verdict"]] == told
    assert 1 == len(server.threads)


def test_waits_at_the_same_time_have_a_connection_each(server, waits):
    """One that goes on holds no other up."""
    going_on = [waits.begin([key]) for key in ("a", "b")]
    server.may_answer.set()
    told = {wait.result(PATIENCE_S)[0][:1] for wait in going_on}

    assert {b"0", b"1"} == told


def test_who_waits_for_the_same_shares_the_wait(server, waits):
    """A wait that was given up after a while, and is begun again, has gone on."""
    first = waits.begin(["a", "b"])
    given_up = first.result(0)

    assert given_up is None
    assert first is waits.begin(["a", "b"])
    server.may_answer.set()
    assert [b"0 a", b"0 b"] == first.result(PATIENCE_S)


def test_a_connection_that_failed_is_not_used_again(server, waits):
    """The wait ends with the error, and the next one connects anew."""
    server.may_answer.set()
    server.error = LOST
    failed = waits.begin(["a"]).result(PATIENCE_S)
    server.error = None

    assert LOST is failed
    assert [b"1 b"] == waits.begin(["b"]).result(PATIENCE_S)


def test_a_connection_that_cannot_be_opened_ends_the_wait():
    """Whoever waits is told why."""

    def refuse():
        raise LOST

    waits = Waits(refuse, lambda *_: [])

    assert LOST is waits.begin(["a"]).result(PATIENCE_S)


def test_closing_ends_the_threads(server, waits):
    """Those that are free, and those that wait once they are answered."""
    server.may_answer.set()
    waits.begin(["a"]).result(PATIENCE_S)
    server.may_answer.clear()
    server.error = LOST
    going_on = [waits.begin([key]) for key in ("b", "c")]
    going_on[1].subscribe(lambda _: server.may_answer.set())
    waits.close(CLOSED, PATIENCE_S, PATIENCE_S)

    assert [CLOSED, CLOSED] == [wait.result(0) for wait in going_on]
    assert not any(thread.is_alive() for thread in server.threads)


def test_nobody_waits_for_a_store_that_is_closed(waits):
    """The wait ends before it begins."""
    waits.close(CLOSED, 0, 0)

    assert CLOSED is waits.begin(["a"]).result(0)


def test_waits_fail_before_their_threads_return(server, waits):
    """A server that says nothing more keeps the threads, not those who wait."""
    wait = waits.begin(["a"])
    waits.fail(LOST)

    assert LOST is wait.result(0)
    server.may_answer.set()


def test_a_wait_ends_once():
    """What comes after that is heard by nobody."""
    heard = []
    wait = Wait(("a",))
    wait.subscribe(heard.append)
    wait.end([b"1"])
    wait.end(LOST)
    wait.subscribe(heard.append)

    assert [[b"1"], [b"1"]] == heard
