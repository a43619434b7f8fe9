"""One attempt to connect to a store server."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping

from ...light_typing import Any
from ...named_tuple import NamedTuple
from ...network.addresses import Endpoint
from ...network.hosts import as_resolvers_take_it, keep_alive
from .channel import Channel, OtherProtectionError, TlsError
from .frames import FrameReader, UnsealedError, WireError, object_in
from .guard import TLS_FAILED, Guard, explained
from .hello import (
    CROWDED,
    MAX_HELLO_BYTES,
    Hello,
    Refusal,
    new_nonce,
    open_with,
    read_answer_to_hello,
    read_nonce,
    write_hello,
    write_opening,
)
from .link import Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .tls import TlsStream


class Unreached(NamedTuple):
    """Why there is no connection.

    Args:
        is_foreign: Whether a program answers there, and not as a store server does.
        is_vacant: Whether the host is there, and no program listens at the port.
    """

    reason: str
    is_foreign: bool = False
    is_vacant: bool = False


class _ClosedError(WireError):
    """The other end closes the connection before it has answered."""


class Target(NamedTuple):
    """Where a store server should be, and what it has to prove.

    Args:
        server_name: The name that the server's certificate has to show; empty: the endpoint's.
    """

    endpoint: Endpoint
    guard: Guard = Guard()
    server_name: str = ""


def dial(
    target: Target, hello: Hello, connect_s: float, handshake_s: float
) -> Link | Refusal | Unreached:
    """Return a connection whose server has let this client in, or why there is none.

    Args:
        connect_s: Seconds until the host has to answer.
        handshake_s: Seconds until the server has to.
    """
    endpoint, guard, server_name = target
    try:
        where = as_resolvers_take_it(endpoint.host), endpoint.port
        connection = socket.create_connection(where, connect_s)  # type: ignore[arg-type]
    except socket.gaierror as error:
        return Unreached(f"the name {endpoint.host} can't be resolved ({error.strerror})")
    except UnicodeError:  # a name that is too long, or has an empty part
        return Unreached(f"{endpoint.host} can't be a host name")
    except TimeoutError:
        return Unreached("it does not answer")
    except OSError as error:
        is_vacant = isinstance(error, ConnectionRefusedError)
        reason = os.strerror(error.errno) if error.errno else str(error)
        return Unreached(reason, is_vacant=is_vacant)
    answer: Link | Refusal
    try:
        keep_alive(connection)
        answer = shake_hands(connection, hello, handshake_s, guard, server_name or endpoint.host)
    except TlsError as error:
        connection.close()
        return Refusal(TLS_FAILED, str(error))
    except (OSError, WireError) as error:
        connection.close()
        return Unreached(_reason_of(error), is_foreign=True)
    if isinstance(answer, Refusal):
        connection.close()
        if answer.kind == CROWDED:
            return Unreached(answer.reason)
    return answer


def _reason_of(error: Exception) -> str:
    """Return, for people, what answers instead of a store server."""
    if isinstance(error, TimeoutError):
        return "a connection is accepted there, and no store server answers"
    if isinstance(error, (ConnectionError, _ClosedError)):
        return (
            "connections are accepted there and closed without an answer, as by a proxy or load "
            "balancer whose store is gone"
        )
    return "a program answers that is no store server"


def shake_hands(
    connection: socket.socket,
    hello: Hello,
    timeout_s: float,
    guard: Guard | None = None,
    server_name: str = "",
) -> Link | Refusal:
    """Introduce this client; return the connection if the server lets it in, or why it does not.

    Args:
        connection: A connection to a server that has answered nothing yet.
        timeout_s: Seconds for all of it.
        server_name: The name that the server's certificate has to show.

    Raises:
        OSError: The connection is lost, or nothing came in time.
        TlsError: The certificates don't fit each other.
        WireError: It is no store server that answers, or none that is protected as it should be.
    """
    guard = guard or Guard()
    tls = None if guard.tls is None else guard.tls.of_client(server_name)
    channel = Channel(tls)
    talk = _Talk(connection, channel, timeout_s)
    try:
        if tls is not None:
            talk.secure(tls)
        answer = talk.prove_secret(hello, guard) or talk.introduce(hello)
    except OtherProtectionError as error:
        answer = talk.read_refusal(error.data)
    if isinstance(answer, Refusal):
        return explained(answer, hello.run_id)
    return Link(connection, channel)


class _Talk:
    """What a client and a server say to each other before the first request."""

    def __init__(self, connection: socket.socket, channel: Channel, timeout_s: float) -> None:
        self._connection = connection
        self._channel = channel
        self._deadline = time.monotonic() + timeout_s
        self._has_answered = False
        self._messages: Iterator[dict[str, Any]] = iter(())
        connection.settimeout(timeout_s)

    def secure(self, tls: TlsStream) -> None:
        """Have TLS agree with the server."""
        tls.receive(b"")
        while not tls.is_established:
            self._send()
            self._messages = self._channel.receive(self._receive())
            for _ in self._messages:
                raise WireError("a server speaks before its client")
        self._send()

    def prove_secret(self, hello: Hello, guard: Guard) -> Refusal | None:
        """Exchange nonces, and seal what follows, if there is a secret."""
        if guard.secret is None:
            return None
        from .seal import CLIENT, Seal  # only a job with a secret needs it

        mine = new_nonce()
        self._send(write_opening(open_with(mine, hello.run_id)))
        message = self._next()
        if "refused" in message:
            return _refusal_in(message)
        self._channel.seal_with(Seal(guard.secret, (mine, read_nonce(message)), CLIENT))
        return None

    def introduce(self, hello: Hello) -> str | Refusal:
        """Send the hello, and return the answer to it."""
        self._send(write_hello(hello))
        try:
            return read_answer_to_hello(self._next())
        except UnsealedError as error:  # a server that does not know the secret can't seal
            return _refusal_in(object_in(error.content))

    def read_refusal(self, data: bytes) -> Refusal:
        """Return the refusal of a server that is not protected by TLS as this client is.

        Args:
            data: What has come from the server so far.
        """
        frames = FrameReader(MAX_HELLO_BYTES)
        while True:
            for message in frames.feed(data):
                return _refusal_in(message)
            data = self._receive()

    def _send(self, *frames: bytes) -> None:
        self._connection.sendall(self._channel.pack(frames))

    def _receive(self) -> bytes:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the answer comes too slowly")
        self._connection.settimeout(left_s)
        data = self._connection.recv(MAX_HELLO_BYTES)
        if not data:
            kind = WireError if self._has_answered else _ClosedError
            raise kind("it closes the connection")
        self._has_answered = True
        return data

    def _next(self) -> dict[str, Any]:
        while True:
            for message in self._messages:
                return message
            self._messages = self._channel.receive(self._receive())


def _refusal_in(message: Mapping[str, Any]) -> Refusal:
    """Return the refusal of a server that is not protected as this client is.

    Raises:
        WireError: It is something else, which is not to be believed.
    """
    answer = read_answer_to_hello(message)
    if not isinstance(answer, Refusal):
        raise WireError("a server without the protection of this job answers")
    return answer
