"""What a client that was let in sends to a store server: a frame for each line, or raw bytes."""

from elrun.rendezvous.stores.server.connections import Connections
from elrun.rendezvous.stores.server.entrance import Entrance
from elrun.rendezvous.stores.server.frames import FrameReader, WireError, framed, object_in
from elrun.rendezvous.stores.server.guests import ClientLimits
from elrun.rendezvous.stores.server.hello import Hello, write_hello
from elrun.rendezvous.stores.server.wire import (
    Get,
    Set,
    read_answer,
    read_request,
    write_request,
)
from fuzz_sockets import FakeSelector, FakeSocket
from round_kit import AllGuests

_RAW = b"\xff"
_HELLO = write_hello(Hello("run", "host"))
_LIMITS = ClientLimits(waits=8, queued_bytes=1 << 20, held_bytes=1 << 22)


def attempt(data: bytes) -> None:
    """Its connection may end; the store and the other clients go on, and the books are right."""
    server = Connections(
        AllGuests(), Entrance(), "mark", "here", _LIMITS, FakeSelector(), lambda: 0.0, lambda: None
    )
    other = _greeted(server)
    one = _greeted(server)
    one.takes = 0 if data[:1] == b"\xfe" else None
    text = data[1:] if data[:1] in (b"\xfe", _RAW) else data
    sent = text if data[:1] == _RAW else b"".join(map(framed, text.split(b"\n")))
    size = max(1, len(sent) // 3)
    for start in range(0, len(sent), size):
        _hear(server, one, sent[start : start + size])
    for number in range(len(text.split(b"\n"))):
        _require_same_again(text.split(b"\n")[number])
    for answer in _answers_in(one) if one.takes is None else ():
        read_answer(answer)
    server.work(1.0)
    _require_right_books(server)
    _hear(server, other, write_request(1, Set({"own": b"1"})) + write_request(2, Get(("own",))))
    assert any(answer.values == (b"1",) for answer in map(read_answer, _answers_in(other)))
    server.end_overdue(1e9)
    server.work(1.0)
    _require_right_books(server)
    server.close()


def _greeted(server):
    client = FakeSocket()
    server.greet(client, "there")
    _hear(server, client, _HELLO)
    assert b"welcome" in client.taken
    client.taken = b""
    return client


def _hear(server, client, data):
    client.given = data
    while client.given and not client.is_closed:
        peer = next(each for each in server._peers.values() if each.connection is client)
        server.attend(peer, 1)


def _answers_in(client):
    return FrameReader(1 << 30).feed(client.taken)


def _require_right_books(server):
    table = server._answers._table
    assert table._bytes == sum(len(key) + len(value) for key, value in table._values.items())
    assert server._held == sum(each.held for each in server._peers.values())
    waits = [wait for of in server._answers._waits.values() for wait in of.values()]
    assert table._awaited == sum(len(wait.keys) for wait in waits)


def _require_same_again(line):
    try:
        request = read_request(object_in(line))
    except WireError:
        return
    (again,) = FrameReader(1 << 30).feed(write_request(*request))
    assert request == read_request(again)
