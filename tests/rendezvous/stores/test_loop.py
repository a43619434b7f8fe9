"""One thread that reads the connections of several stores."""

import os
import socket
import threading

import pytest
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.node.rendezvous import RoundRendezvous
from elrun.rendezvous.stores.loop import Loop
from elrun.rendezvous.stores.server.client import StoreClient
from elrun.rendezvous.stores.server.line import Line
from elrun.rendezvous.stores.server.link import Link
from elrun.rendezvous.stores.server.server import StoreServer
from elrun.rendezvous.stores.signed import Secret, signed_view
from elrun.rendezvous.stores.store import Connection, read_by
from round_kit import PATIENCE_S, TIMING, AllGuests, ServerClients


@pytest.fixture(name="loop")
def _loop():
    loop = Loop()
    loop.enter()
    yield loop
    loop.close()


@pytest.fixture(name="clients")
def _clients():
    server = StoreServer(AllGuests(), "here")
    server.start()
    yield ServerClients(server)
    server.close()


@pytest.fixture(name="silent")
def _silent():
    """Return a client, and the end of its connection at which no server answers."""
    mine, its = socket.socketpair()
    store = StoreClient(Line(Link(mine), "there", PATIENCE_S))
    with its:
        its.settimeout(PATIENCE_S)
        yield store, its
        store.close()


def names():
    return [thread.name for thread in threading.enumerate()]


def test_the_thread_of_a_loop_reads_several_stores_itself(loop, clients):
    """While it waits for one store's answer, it takes in what another one reports."""
    one, other = clients.connect(), clients.connect()
    try:
        for store in (one, other):
            read_by(store, loop)
        heard = []
        other.watch(["late"], heard.append)
        one.set({"late": b"now"})
        while not heard:
            one.add("n", 1)

        assert [[b"now"]] == heard
        assert "elrun-store-client" not in names()
    finally:
        one.close()
        other.close()


def test_a_call_of_another_thread_ends_by_what_the_loop_reads(loop, clients):
    store = clients.connect()
    try:
        read_by(store, loop)
        found = []

        def ask():
            found.append(store.add("n", 5))
            loop.wake()

        thread = threading.Thread(target=ask)
        thread.start()
        while not found:
            loop.turn(PATIENCE_S)
        thread.join()

        assert [5] == found
    finally:
        store.close()


def test_a_wake_before_the_turn_ends_it(loop):
    """An event that comes between the look at the queue and the turn is not slept over."""
    thread = threading.Thread(target=loop.wake)
    thread.start()
    thread.join()
    loop.turn(None)

    ready, watched = [], os.pipe()
    loop.add(watched[0], lambda: ready.append(os.read(watched[0], 1)))
    os.write(watched[1], b"x")
    loop.turn(None)  # the wake was taken in: this turn ends by the pipe
    loop.remove(watched[0])
    for number in watched:
        os.close(number)

    assert [b"x"] == ready


def test_a_store_that_another_thread_closes_ends_the_call_of_the_loops_thread(loop, silent):
    store, its = silent
    read_by(store, loop)

    def close():
        its.recv(1)  # the request is under way
        store.close()

    thread = threading.Thread(target=close)
    thread.start()
    with pytest.raises(RendezvousConnectionError):
        store.add("n", 1)
    thread.join()


@pytest.mark.parametrize("is_signed", [False, True], ids=["plain", "signed"])
@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.get(["k", "l"]),
        lambda store: store.create("k", b"1"),
        lambda store: store.wait(["k", "l"], None),
    ],
    ids=["get", "create", "wait"],
)
def test_an_answer_with_too_few_values_is_an_error(loop, silent, ask, is_signed):
    """The thread that reads it goes on."""
    plain, its = silent
    read_by(plain, loop)
    store = signed_view(plain, Secret(b"open sesame")) if is_signed else plain

    def answer():
        its.recv(4096)
        its.sendall(b'\0\0\0\x14{"id":1,"values":[]}')

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(RendezvousConnectionError, match="0 values, and [12] were asked for"):
        ask(store)
    thread.join()


@pytest.mark.parametrize(
    ("ask", "wanted"),
    [
        (lambda store: store.get(["k", "l"]), 2),
        (lambda store: store.set({"k": b"1"}), 0),
        (lambda store: store.create("k", b"1"), 1),
    ],
    ids=["get", "set", "create"],
)
def test_parts_of_an_answer_without_end_are_not_gathered(loop, silent, ask, wanted):
    """The first part with more values than were asked for ends the connection."""
    store, its = silent
    read_by(store, loop)

    def answer():
        its.recv(4096)
        part = b'{"id":1,"values":["MQ=="],"more":true}'
        for _ in range(wanted + 1):
            its.sendall(len(part).to_bytes(4, "big") + part)

    thread = threading.Thread(target=answer)
    thread.start()
    more = f"{wanted + 1} values, and {wanted} were asked for"
    with pytest.raises(RendezvousConnectionError, match=more):
        ask(store)
    thread.join()


def test_a_due_function_that_raises_leaves_the_others_due(loop):
    """Each is called once."""
    called = []

    def fail():
        called.append("first")
        raise LookupError

    loop.call_later(0.0, fail)
    loop.call_later(0.0, lambda: called.append("second"))
    with pytest.raises(LookupError):
        loop.turn(None)
    loop.turn(None)

    assert ["first", "second"] == called


@pytest.mark.parametrize("is_signed", [False, True], ids=["plain", "signed"])
def test_a_watch_is_told_of_an_answer_with_too_few_values(loop, silent, is_signed):
    """The thread that reads it goes on."""
    plain, its = silent
    read_by(plain, loop)
    store = signed_view(plain, Secret(b"open sesame")) if is_signed else plain
    heard = []
    store.watch(["k", "l"], heard.append)
    its.recv(4096)
    its.sendall(b'\0\0\0\x14{"id":1,"values":[]}')
    while not heard:
        loop.turn(PATIENCE_S)

    assert isinstance(heard[0], RendezvousConnectionError)


def test_a_node_that_is_closed_while_it_enters_the_run_lets_its_store_go(silent):
    """Nobody reads the answer any more: the thread that asks does not wait for it."""
    store, its = silent
    handler = RoundRendezvous(
        RendezvousParameters("memory", "", "run", 1, 1), lambda _: Connection(store, "here"), TIMING
    )

    def join():
        with pytest.raises(Exception, match="left run"):
            handler.next_rendezvous()

    thread = threading.Thread(target=join)
    thread.start()
    its.recv(1)
    handler.shutdown()
    thread.join()
    while its.recv(4096):  # until the connection has ended
        pass

    assert "elrun-store-client" not in names()
