"""The first messages between client and store server, on both sides, with and without secret."""

from elrun.rendezvous.stores.server.connections import Connections
from elrun.rendezvous.stores.server.dial import shake_hands
from elrun.rendezvous.stores.server.entrance import Entrance
from elrun.rendezvous.stores.server.frames import FrameReader, WireError, framed
from elrun.rendezvous.stores.server.guard import Guard
from elrun.rendezvous.stores.server.guests import ClientLimits
from elrun.rendezvous.stores.server.hello import (
    Hello,
    Refusal,
    new_nonce,
    open_with,
    read_answer_to_hello,
    write_hello,
    write_opening,
)
from elrun.rendezvous.stores.signed import Secret
from fuzz_sockets import FakeSelector, FakeSocket
from round_kit import AllGuests

_HELLO = Hello("run", "host")
_GUARDS = (Guard(), Guard(Secret(b"a word that nobody knows")))
_RAW = 0x80


def attempt(data: bytes) -> None:
    """The first byte chooses a side; frames follow, or raw bytes if its highest bit is set."""
    choice = data[0] if data else 0
    body = data[1:]
    sent = body if choice & _RAW else b"".join(map(framed, body.split(b"\n")))
    guard = _GUARDS[choice & 1]
    if choice & 2:
        _try_client(sent, guard)
    else:
        _try_server(sent, guard)


def _try_client(sent, guard):
    try:
        answer = shake_hands(FakeSocket(sent), _HELLO, 60, guard)
    except (WireError, OSError):
        return
    assert not isinstance(answer, Refusal) or answer.kind or answer.reason


def _try_server(sent, guard):
    server = Connections(
        AllGuests(),
        Entrance(guard, "run"),
        "mark",
        "here",
        ClientLimits(),
        FakeSelector(),
        lambda: 0.0,
        lambda: None,
    )
    stranger, friend = FakeSocket(), FakeSocket()
    server.greet(stranger, "there")
    server.greet(friend, "there")
    _hear(server, stranger, sent)
    for message in FrameReader(1 << 20).feed(stranger.taken) if guard.secret is None else ():
        if "id" not in message:
            read_answer_to_hello(message)
    if guard.secret is None:
        _hear(server, friend, write_hello(_HELLO))
        assert b'"welcome"' in friend.taken
    else:
        _hear(server, friend, write_opening(open_with(new_nonce(), "run")))
        assert b'"nonce"' in friend.taken
    server.close()


def _hear(server, client, data):
    client.given = data
    while client.given and not client.is_closed:
        peer = next(each for each in server._peers.values() if each.connection is client)
        server.attend(peer, 1)
