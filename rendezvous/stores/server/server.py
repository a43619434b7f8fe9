"""The server of a store: one thread, one loop, all of a job's keys.

Nothing that a client sends, or leaves unsent, can end it or hold it up: what is not understood ends
its connection, and so does a reader that never reads. Who says nothing at all is let go after a few
seconds, and only so many may say nothing at a time.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue

from ...threads import start_thread
from .answers import Answers
from .guests import Admitted, Guests, Limits
from .wire import (
    MAX_FRAME_BYTES,
    MAX_HELLO_BYTES,
    VERSION,
    FrameReader,
    Hello,
    Refusal,
    WireError,
    read_hello,
    read_request,
    write_refusal,
    write_welcome,
)

log = logging.getLogger(__name__)

_READ_BYTES = 256 << 10
_ACCEPT_AT_ONCE = 64
_PAUSE_WITHOUT_FDS_S = 0.1
_MOST_FOREIGNERS = 16
_MAPPED = "::ffff:"  # before an IPv4 address, at a socket of both kinds
_NO_LINGER = struct.pack("ii", 1, 0)
_TORCH = b"\0\xce\xf7\x85\x3c"
"""What a client of torch's TCPStore begins with."""
_OUT_OF_FDS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class _Client:
    """One connection."""

    def __init__(self, connection: socket.socket, number: int, name: str, deadline: float) -> None:
        self.connection = connection
        self.number = number
        self.name = name
        self.frames = FrameReader(MAX_HELLO_BYTES)
        self.first_bytes = b""
        self.is_admitted = False
        self.is_leaving = False
        self.out = bytearray()
        # When it has to have said who it is, or to have read something of what waits for it.
        self.deadline: float | None = deadline


class StoreServer:
    """Serves the keys of one job, from ``start`` to ``close``.

    Args:
        guests: Decides who is let in.
        name: What people call the place, for what is logged.
        limits: What a client may cost.
        clock: A monotonic clock.
    """

    def __init__(
        self,
        guests: Guests,
        name: str,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.mark = os.urandom(8).hex()
        self._guests = guests
        self._name = name
        self._limits = limits or Limits()
        self._clock = clock
        self._answers: Answers[_Client] = Answers(self._limits.waits)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._commands: SimpleQueue[tuple[Callable[[], None], threading.Event]] = SimpleQueue()
        self._lock = threading.Lock()
        self._has_ended = False
        self._thread = threading.Thread(target=self._run, name="elrun-store", daemon=True)
        # What follows belongs to the server's thread.
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._clients: dict[int, _Client] = {}
        self._strangers: dict[int, _Client] = {}
        self._pressed: dict[int, _Client] = {}  # those for whom something waits
        self._listener: socket.socket | None = None
        self._is_accepting = False
        self._accepts_after = 0.0
        self._count = 0
        self._foreigners: set[str] = set()
        self._is_closing = False

    def start(self) -> None:
        """Begin to serve."""
        start_thread(self._thread)

    def adopt(self, connection: socket.socket) -> None:
        """Serve a connection that somebody else has made."""
        self._do(lambda: self._greet(connection, "this process"))

    def listen(self, listener: socket.socket) -> None:
        """Accept connections at a socket, while anybody is still to come.

        Args:
            listener: Stays the caller's.
        """
        listener.setblocking(False)
        self._do(lambda: self._set_listener(listener))

    def stop_listening(self) -> None:
        """Accept no more; when this returns, the socket is left alone."""
        self._do(lambda: self._set_listener(None))

    def close(self) -> None:
        """Let all clients go, and end."""

        def end() -> None:
            self._is_closing = True

        self._do(end)
        self._thread.join()

    def _do(self, command: Callable[[], None]) -> None:
        """Have the server's thread do something, and return when it has."""
        is_done = threading.Event()
        with self._lock:
            if self._has_ended:
                return
            self._commands.put((command, is_done))
            os.eventfd_write(self._wake, 1)
        is_done.wait()

    def _run(self) -> None:
        try:
            while not self._is_closing:
                self._turn()
        finally:
            with self._lock:
                self._has_ended = True
            for client in list(self._clients.values()):
                self._let_go(client)
            self._selector.close()
            os.close(self._wake)
            with contextlib.suppress(Empty):
                while True:
                    self._commands.get_nowait()[1].set()

    def _turn(self) -> None:
        now = self._clock()
        self._end_overdue(now)
        self._move_door(now)
        for key, events in self._selector.select(self._due_in_s(now)):
            if key.fileobj is self._listener:
                self._accept()
            elif key.data is None:
                self._obey()
            else:
                self._attend(key.data, events)

    def _obey(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        with contextlib.suppress(Empty):
            while True:
                command, is_done = self._commands.get_nowait()
                try:
                    command()
                finally:
                    is_done.set()

    def _due_in_s(self, now: float) -> float | None:
        waiting = [*self._strangers.values(), *self._pressed.values()]
        dues = [client.deadline - now for client in waiting if client.deadline is not None]
        if self._listener is not None:
            change_s = self._guests.changes_in_s(now)
            dues += [] if change_s is None else [change_s]
            dues += [self._accepts_after - now] if self._accepts_after > now else []
        return max(0.0, min(dues)) if dues else None

    def _end_overdue(self, now: float) -> None:
        for client in [*self._strangers.values(), *self._pressed.values()]:
            if client.deadline is not None and now >= client.deadline:
                self._cut_off(client)

    # The door.

    def _set_listener(self, listener: socket.socket | None) -> None:
        if self._is_accepting and self._listener is not None:
            self._selector.unregister(self._listener)
        self._listener, self._is_accepting = listener, False
        self._move_door(self._clock())

    def _move_door(self, now: float) -> None:
        if self._listener is None:
            return
        shall_accept = now >= self._accepts_after and self._guests.are_missing(now)
        if shall_accept and not self._is_accepting:
            self._selector.register(self._listener, selectors.EVENT_READ)
        elif self._is_accepting and not shall_accept:
            self._selector.unregister(self._listener)
        self._is_accepting = shall_accept

    def _accept(self) -> None:
        for _ in range(_ACCEPT_AT_ONCE):
            if self._listener is None or not self._is_accepting:
                return
            try:
                connection, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _OUT_OF_FDS:
                    self._accepts_after = self._clock() + _PAUSE_WITHOUT_FDS_S
                    self._move_door(self._clock())
                    return
                continue  # it has gone again
            try:
                _keep_alive(connection)
            except OSError:  # it was reset already
                connection.close()
                continue
            self._greet(connection, str(address[0]).removeprefix(_MAPPED))

    def _greet(self, connection: socket.socket, name: str) -> None:
        if len(self._strangers) >= self._limits.strangers:
            self._let_go(next(iter(self._strangers.values())))
        self._count += 1
        connection.setblocking(False)
        client = _Client(connection, self._count, name, self._clock() + self._limits.hello_s)
        try:
            self._selector.register(connection, selectors.EVENT_READ, client)
        except OSError:  # the system watches no more: this one client does without
            connection.close()
            return
        self._clients[client.number] = self._strangers[client.number] = client

    # Clients.

    def _attend(self, client: _Client, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                self._flush(client)
            if events & selectors.EVENT_READ and client.number in self._clients:
                self._read(client)
        except OSError:
            self._let_go(client)
        except WireError as error:
            self._tell_of_foreigner(client, error)
            self._let_go(client)

    def _read(self, client: _Client) -> None:
        try:
            data = client.connection.recv(_READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._let_go(client)
            return
        if not client.is_admitted:
            client.first_bytes = (client.first_bytes + data)[:MAX_HELLO_BYTES]
        else:
            self._guests.hear(client.number, self._clock())
        for message in client.frames.feed(data):
            if client.number not in self._clients or client.is_leaving:
                return
            if client.is_admitted:
                for each, frames in self._answers.answer(client, *read_request(message)):
                    self._send(each, frames)
            else:
                self._admit(client, read_hello(message))

    def _admit(self, client: _Client, hello: Hello | int) -> None:
        if isinstance(hello, int):
            answer: Admitted | Refusal = Refusal(
                "version",
                f"{self._name} speaks version {VERSION} of elrun's protocol, and this node "
                f"{hello}: run the same version of elrun on every node",
            )
        else:
            answer = self._guests.admit(hello, client.number, self.mark, self._clock())
        if isinstance(answer, Refusal):
            client.is_leaving = True
            self._send(client, [write_refusal(answer)])
            return
        before = self._clients.get(answer.instead_of or 0)
        if before is not None:
            self._let_go(before)
        del self._strangers[client.number]
        client.is_admitted, client.deadline, client.first_bytes = True, None, b""
        client.frames.limit = MAX_FRAME_BYTES
        # First: whoever is let in last may start workers, which are not to meet this server.
        self._move_door(self._clock())
        self._send(client, [write_welcome(self.mark)])

    def _send(self, client: _Client, frames: Iterable[bytes]) -> None:
        """Send what can be sent now, and the rest when the client reads."""
        if client.number not in self._clients:
            return
        for frame in frames:
            client.out += frame
        if len(client.out) > self._limits.queued_bytes:
            self._cut_off(client)
        elif client.number not in self._pressed:
            try:
                self._flush(client)
            except OSError:
                self._let_go(client)

    def _flush(self, client: _Client) -> None:
        with contextlib.suppress(BlockingIOError):
            while client.out:
                with memoryview(client.out) as view:
                    sent = client.connection.send(view[:_READ_BYTES])
                del client.out[:sent]
                client.deadline = self._clock() + self._limits.stall_s
        if client.out and client.number not in self._pressed:
            self._pressed[client.number] = client
            client.deadline = self._clock() + self._limits.stall_s
            both = selectors.EVENT_READ | selectors.EVENT_WRITE
            self._selector.modify(client.connection, both, client)
        elif not client.out:
            if self._pressed.pop(client.number, None) is not None:
                self._selector.modify(client.connection, selectors.EVENT_READ, client)
            client.deadline = None if client.is_admitted else client.deadline
            if client.is_leaving:
                self._let_go(client)

    def _cut_off(self, client: _Client) -> None:
        """Let a client go that takes nothing: not even the kernel keeps anything for it."""
        if client.is_admitted:
            log.warning("%s: %s reads nothing of what it asks for", self._name, client.name)
        with contextlib.suppress(OSError):
            client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._let_go(client)

    def _let_go(self, client: _Client) -> None:
        if self._clients.pop(client.number, None) is None:
            return
        self._strangers.pop(client.number, None)
        self._pressed.pop(client.number, None)
        self._selector.unregister(client.connection)
        client.connection.close()
        self._answers.leave(client)
        if client.is_admitted:
            self._guests.leave(client.number)

    def _tell_of_foreigner(self, client: _Client, error: WireError) -> None:
        log.info("%s: %s is let go: %s", self._name, client.name, error)
        is_new = client.name not in self._foreigners and len(self._foreigners) < _MOST_FOREIGNERS
        if is_new and not client.is_admitted:
            self._foreigners.add(client.name)
            is_torch = client.first_bytes.startswith(_TORCH)
            log.warning(
                "%s: a connection from %s was refused, as %s; every node of a job must run elrun",
                self._name,
                client.name,
                "torchrun or torch's TCPStore speaks there" if is_torch else "it isn't elrun's",
            )


def _keep_alive(connection: socket.socket) -> None:
    """Have the kernel notice a peer whose machine is gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
