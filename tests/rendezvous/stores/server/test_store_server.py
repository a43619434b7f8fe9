"""The store server on real sockets: what its clients may do, and what strangers can't."""

import os
import resource
import socket
import struct
import threading

import pytest
from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.stores.server.client import StoreClient
from elrun.rendezvous.stores.server.dial import Target, Unreached, dial, shake_hands
from elrun.rendezvous.stores.server.frames import WireError, write_frame
from elrun.rendezvous.stores.server.guests import ClientLimits
from elrun.rendezvous.stores.server.hello import Refusal, write_hello
from elrun.rendezvous.stores.server.line import Line
from elrun.rendezvous.stores.server.link import Link
from elrun.rendezvous.stores.server.table import StoreTable, TableError
from elrun.rendezvous.stores.server.wire import (
    Add,
    Set,
    Wait,
    write_request,
)
from round_kit import HELLO, AllGuests
from server_kit import LONG_S, is_closed, serves


class FewGuests(AllGuests):
    """Wants so many, and then no more."""

    def __init__(self, count):
        super().__init__()
        self.count = count
        self.here = set()

    def admit(self, hello, client, mark, now):
        self.here.add(client)
        return super().admit(hello, client, mark, now)

    def leave(self, client):
        self.here.discard(client)

    def are_missing(self, now):
        return len(self.here) < self.count


def unwelcomed(connection, patience_s):
    return StoreClient(Line(Link(connection), "there", patience_s))


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\0\xce\xf7\x85\x3c\r/&\0\0",
        b"\xff" * 64,
        b"\0\0\0\2{}",
        b"\0\0\0\2[]",
        write_frame({"id": 1, "do": "get", "keys": []}),
        write_hello(HELLO) + b"\0\0\0\2{}",
        write_hello(HELLO) + write_frame({"id": "1", "do": "add", "key": "k", "amount": 1}),
        write_hello(HELLO) + write_frame({"id": 1, "do": "wait", "keys": ["never"]}) * 2,
    ],
    ids=lambda garbage: str(garbage[:24]),
)
def test_garbage_ends_its_own_connection_only(server, garbage):
    """Whatever protocol somebody speaks here, before or after a proper hello."""
    connection = server.dial()
    connection.sendall(garbage)

    assert (True, True) == (is_closed(connection), serves(server))


def test_random_bytes_end_nothing_else(server):
    """A port scanner finds a wall."""
    for _ in range(50):
        with server.dial() as connection:
            connection.sendall(write_hello(HELLO)[: os.urandom(1)[0] % 60] + os.urandom(64))

    assert serves(server)


def test_strangers_are_named_once(server, caplog):
    """What speaks as torch's store does is most likely a torchrun."""
    for _ in range(3):
        connection = server.dial()
        connection.sendall(b"\0\xce\xf7\x85\x3c\r/&\0\0")
        is_closed(connection)

    told = [message for message in caplog.messages if "127.0.0.1" in message]
    assert ["torchrun or torch's TCPStore speaks there; every node of a job must run elrun"] == [
        message.partition(", as ")[2] for message in told
    ]


def test_another_version_is_refused_in_words(server):
    """By the one thing that all versions must understand."""
    connection = server.dial()
    connection.sendall(write_frame({"elrun": 7, "hello": {}}))
    text = connection.recv(4096)
    connection.close()

    assert b"run the same version of elrun on every node" in text


def test_who_says_nothing_is_let_go(open_server):
    """After the time for a hello."""
    server = open_server(limits=ClientLimits(hello_s=0.05))

    assert (True, True) == (is_closed(server.dial()), serves(server))


def test_many_who_say_nothing_keep_nobody_out(open_server):
    """The first of them makes room."""
    server = open_server(limits=ClientLimits(hello_s=1000, strangers=4, chance_s=0))
    silent = [server.dial() for _ in range(12)]

    assert serves(server)
    assert [True] * 8 == [is_closed(connection) for connection in silent[:8]]
    for connection in silent[8:]:
        connection.close()


def test_a_node_that_makes_room_for_strangers_comes_again(open_server):
    """It would take a store of its job for another program, and give up after ten seconds."""
    server = open_server(limits=ClientLimits(hello_s=1000, strangers=1, chance_s=0))
    node = server.dial()
    stranger = server.dial()
    told = node.recv(4096)
    listener = socket.create_server(("127.0.0.1", 0))
    answering = threading.Thread(target=answer_one, args=(listener, told))
    answering.start()
    answer = dial(Target(Endpoint("127.0.0.1", listener.getsockname()[1])), HELLO, LONG_S, LONG_S)
    answering.join()

    assert (
        Unreached(
            "so many connections come there that this node's made room before its turn had come"
        )
        == answer
    )
    for each in (node, stranger, listener):
        each.close()


def answer_one(listener, data):
    connection, _ = listener.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(data)


def test_who_never_reads_is_let_go(open_server):
    """What waits for it is bounded."""
    server = open_server(limits=ClientLimits(queued_bytes=1 << 20))
    writer = server.client()
    writer.set({"big": bytes(1 << 19)})
    lazy = server.welcomed()
    ask = write_frame({"id": 1, "do": "get", "keys": ["big"]})
    with pytest.raises(OSError):
        lazy.sendall(ask * 200_000)
    lazy.close()

    assert [bytes(1 << 19)] == writer.get(["big"])
    writer.close()


def test_who_stops_reading_is_let_go(open_server):
    """However little waits for it."""
    server = open_server(limits=ClientLimits(stall_s=0.05))
    writer = server.client()
    writer.set({"big": bytes(1 << 20)})
    lazy, its = socket.socketpair()  # whose buffers are small
    server.server.adopt(its)
    shake_hands(lazy, HELLO, LONG_S)
    lazy.sendall(write_frame({"id": 1, "do": "get", "keys": ["big"]}))

    assert server.guests.gone.wait(LONG_S)
    assert is_closed(lazy)
    writer.close()


def test_a_large_answer_comes_whole(server):
    """In parts that a slow reader takes one by one, while others are served."""
    client, other = server.client(), server.client()
    values = {f"k{n}": bytes([n]) * (2 << 20) for n in range(4)}
    client.set(values)
    result = []
    reading = threading.Thread(target=lambda: result.append(client.get(list(values))))
    reading.start()
    assert 1 == other.add("n", 1)
    reading.join(LONG_S)

    assert [list(values.values())] == result
    client.close()
    other.close()


def test_a_value_that_is_too_long_is_refused_before_it_is_sent(server):
    """The connection goes on."""
    client = server.client()
    with pytest.raises(ValueError, match="k: 8388609 bytes, and 8388608 are allowed"):
        client.set({"k": bytes((8 << 20) + 1)})

    assert 1 == client.add("n", 1)
    client.close()


def test_a_full_store_says_so():
    """Nothing of what didn't fit is written."""
    table = StoreTable(max_keys=2, max_bytes=10)
    table.set({"a": b"1", "b": b"2"})
    for values in ({"c": b"3"}, {"a": b"12345678"}):
        with pytest.raises(TableError, match="full"):
            table.set(values)
    table.set({"a": b"1234567"})

    assert [b"1234567", b"2", None] == table.get(["a", "b", "c"])


def test_the_door_is_shut_when_all_are_there(open_server):
    """Who comes then is not answered; when one leaves, somebody is."""
    server = open_server(FewGuests(2))
    first, second = server.welcomed(), server.welcomed()
    late = server.dial()
    late.sendall(write_hello(HELLO))
    late.settimeout(0.1)
    with pytest.raises(TimeoutError):
        late.recv(1)
    first.close()
    late.settimeout(LONG_S)

    assert b"welcome" in late.recv(4096)
    late.close()
    second.close()


def test_a_listener_is_left_alone_when_the_server_is_told_so(server):
    """It is another's then, with all who come; and may be given back."""
    server.server.stop_listening()
    connection = server.dial()
    accepted, _ = server.listener.accept()
    accepted.close()

    assert is_closed(connection)
    server.server.listen(server.listener)
    assert serves(server)


def test_no_descriptor_left_is_waited_out(server):
    """Those who are there are served meanwhile; the next one is, once there is a descriptor."""
    client = server.client()
    client.add("n", 0)  # has all its descriptors
    server.server.stop_listening()
    late = server.dial()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        server.server.listen(server.listener)
        counted = client.add("n", 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert 1 == counted
    assert isinstance(shake_hands(late, HELLO, LONG_S), Link)
    late.close()
    client.close()


def test_a_closed_server_is_a_lost_store(server):
    """Whoever waits hears of it, and whoever asks; the sentence names the place."""
    client = server.client()
    told = []
    heard = threading.Event()
    client.watch(["never"], lambda error: (told.append(error), heard.set()))
    server.close()
    heard.wait(LONG_S)

    assert "the rendezvous store at here was lost: its host has closed the connection" == str(
        told[0]
    )
    with pytest.raises(RendezvousConnectionError, match="was lost: its host"):
        client.get(["k"])
    client.close()


def test_a_server_that_answers_nothing_is_lost_after_a_while():
    """TCP alone would bear it for a quarter of an hour."""
    mine, its = socket.socketpair()
    client = unwelcomed(mine, 0.1)
    with pytest.raises(RendezvousConnectionError, match="it has not answered for 0.1 s"):
        client.add("n", 1)
    client.close()
    its.close()


def test_a_server_that_takes_nothing_is_lost_after_a_while():
    """A full buffer holds nobody for good."""
    mine, its = socket.socketpair()
    client = unwelcomed(mine, 0.1)
    with pytest.raises(RendezvousConnectionError, match="it has taken nothing for 0.1 s"):
        client.set({"k": bytes(4 << 20)})
    client.close()
    its.close()


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", write_frame({"id": "1"}), b"\0\0\0\2[]"]
)
def test_a_server_that_is_none_is_a_lost_store(answer):
    """What it says is not believed, and holds nobody up."""
    mine, its = socket.socketpair()
    client = unwelcomed(mine, LONG_S)
    its.sendall(answer)
    with pytest.raises(RendezvousConnectionError, match="what it sends is not understood"):
        client.wait(["k"], LONG_S)
    client.close()
    its.close()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\0\2{}"])
def test_a_hello_to_another_program_is_an_error(answer):
    """Which says no more than that."""
    mine, its = socket.socketpair()
    its.sendall(answer)
    its.shutdown(socket.SHUT_WR)
    with pytest.raises(WireError):
        shake_hands(mine, HELLO, LONG_S)
    mine.close()
    its.close()


def test_a_refusal_is_an_answer(open_server):
    """With its kind and its reason."""

    class Nobody(AllGuests):
        def admit(self, hello, client, mark, now):
            return Refusal("run", f"not {hello.host}")

    server = open_server(Nobody())
    with server.dial() as connection:
        assert Refusal("run", "not host") == shake_hands(connection, HELLO, LONG_S)


def test_what_is_awaited_by_many_is_told_to_all(server):
    """By one connection as well as by several."""
    clients = [server.client() for _ in range(5)]
    told = threading.Semaphore(0)
    for client in clients:
        for _ in range(40):
            client.watch(["verdict"], lambda values: told.release() if values == [b"v"] else None)
    clients[0].set({"verdict": b"v"})

    assert [True] * 200 == [told.acquire(timeout=LONG_S) for _ in range(200)]
    for client in clients:
        client.close()


def test_a_client_that_is_gone_ends_no_wait_of_others(server):
    """Though it had several for one key, and its connection was reset."""
    gone, client = server.welcomed(), server.client()
    told = threading.Event()
    gone.sendall(b"".join(write_request(n, Wait(("k",))) for n in range(3)))
    gone.sendall(write_request(3, Add("n", 1)))
    client.wait(["n"], LONG_S)
    client.watch(["k"], lambda values: told.set())
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with server.paused():
        client._line._reader.link.send(write_request(99, Set({"k": b"1"})))
        gone.close()

    assert told.wait(LONG_S)
    assert serves(server)
    client.close()


def test_pipelined_requests_are_all_answered(server):
    """However the bytes were cut."""
    connection = server.welcomed()
    data = b"".join(write_request(n, Set({f"k{n}": b"1"})) for n in range(1000))
    connection.sendall(data)
    got = b""
    while got.count(b'"id":') < 1000:
        got += connection.recv(1 << 16)
    connection.close()

    assert b'{"id":999}' in got
