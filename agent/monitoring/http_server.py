"""A small HTTP server for short questions, which nobody can hold up or make grow.

One thread serves all; it sleeps until somebody connects. A connection carries one question: GET or
HEAD, without a body. Everything about it is bounded: how many there are, how long their heads may
be, and how long each step may take. Where there are too many, the oldest one goes, so that whoever
comes with a question in hand is heard in any crowd.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable

from ...rendezvous.threads import start_thread
from ..system.wakeup import Wakeup
from .http_messages import Answer, Request, parse_request

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 128
MAX_IGNORED_BYTES = 1 << 20
REQUEST_S = 5.0
REPLY_S = 5.0
LEAVE_S = 1.0

_CHUNK_BYTES = 4_096
_PAUSE_S = 1.0
_STOP_S = 1.0
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Respond = Callable[[str, float, bool], Answer | None]
"""Answers a path that was asked for at a time of ``time.monotonic()``.

None asks for patience: it is called again at each ``recheck``, and when the patience is at its end,
with True as the third argument; then None is a fault.
"""


class _Phase(enum.Enum):
    READING = "its request is read"
    ASKING = "its answer is found"
    WRITING = "the answer is sent"
    LEAVING = "what else it sends is ignored: closed with unread data, it would lose the answer"


class _Connection:
    """One client: what it sent, what it still gets, and until when."""

    def __init__(self, client: socket.socket, now: float) -> None:
        self.socket = client
        self.received = b""
        self.request = Request("", wants_body=True)
        self.asked_at = 0.0
        self.to_send = b""
        self.ignored_bytes = 0
        self.enter(_Phase.READING, now, REQUEST_S)

    def enter(self, phase: _Phase, now: float, time_s: float) -> None:
        self.phase = phase
        self.deadline = now + time_s

    def close(self) -> None:
        with contextlib.suppress(OSError):  # closing does little where a forked worker holds it too
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class HttpServer:
    """Answers questions at one address until it is stopped.

    Args:
        host: Address to listen at.
        port: Port to listen at; 0 for any that is free.
        respond: Answers; it is called in the server's thread.
        patience_s: How long ``respond`` may put an answer off.
    """

    def __init__(self, host: str, port: int, respond: Respond, patience_s: float = 0.0) -> None:
        self._host = host
        self._port = port
        self._respond = respond
        self._patience_s = patience_s
        self._wake = Wakeup()
        self._selector = selectors.DefaultSelector()
        self._connections: dict[_Connection, None] = {}  # a set in order: the oldest first
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._resume_at: float | None = None
        self._is_stopping = False

    def start(self) -> int:
        """Listen from now on.

        Returns:
            The port.

        Raises:
            OSError: The address can't be listened at.
        """
        is_v6 = ":" in self._host
        self._listener = socket.create_server(
            (self._host, self._port),
            family=socket.AF_INET6 if is_v6 else socket.AF_INET,
            backlog=MAX_CONNECTIONS,
            dualstack_ipv6=is_v6 and socket.has_dualstack_ipv6(),
        )
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake.fileno(), selectors.EVENT_READ)
        self._thread = start_thread(
            threading.Thread(target=self._serve, name="elrun-health", daemon=True)
        )
        return int(self._listener.getsockname()[1])

    def recheck(self) -> None:
        """Ask ``respond`` again about whatever it has put off; from any thread."""
        self._wake.notify()

    def stop(self) -> None:
        """Hang up on everybody and give the address back."""
        self._is_stopping = True
        self._wake.notify()
        if self._thread is not None:
            self._thread.join(_STOP_S)
            if self._thread.is_alive():  # a callback that hangs: its descriptors stay with it
                return
        for connection in self._connections:
            connection.close()
        if self._listener is not None:
            with contextlib.suppress(OSError):  # the same as for a connection
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        self._selector.close()
        self._wake.close()

    def _serve(self) -> None:
        while True:
            ready = self._selector.select(self._time_left())
            self._wake.clear()
            if self._is_stopping:
                return
            for key, _ in ready:
                if key.fileobj is self._listener:
                    self._accept()
                elif key.data in self._connections:  # not dropped for a newer one just now
                    self._go_on(key.data)
            for connection in list(self._connections):
                self._look_at(connection, time.monotonic())
            if self._resume_at is not None and time.monotonic() >= self._resume_at:
                self._listen()

    def _time_left(self) -> float | None:
        deadlines = [each.deadline for each in self._connections]
        if self._resume_at is not None:
            deadlines.append(self._resume_at)
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            client, _ = self._listener.accept()
        except OSError as error:
            if error.errno in _NO_ROOM and not self._drop_oldest():
                self._pause()
            return
        client.setblocking(False)
        if len(self._connections) >= MAX_CONNECTIONS:
            self._drop_oldest()
        connection = _Connection(client, time.monotonic())
        self._connections[connection] = None
        self._watch(connection, selectors.EVENT_READ)

    def _pause(self) -> None:
        """Be deaf for a second: without a free descriptor the listener would stay readable."""
        if self._listener is not None:
            self._selector.unregister(self._listener)
        self._resume_at = time.monotonic() + _PAUSE_S

    def _listen(self) -> None:
        self._resume_at = None
        if self._listener is not None:
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _go_on(self, connection: _Connection) -> None:
        try:
            match connection.phase:
                case _Phase.READING:
                    self._read(connection)
                case _Phase.WRITING:
                    self._write(connection)
                case _Phase.LEAVING:
                    self._ignore(connection)
                case _Phase.ASKING:  # no socket is watched in this phase
                    pass
        except BlockingIOError:
            pass
        except OSError:  # it has gone
            self._drop(connection)

    def _look_at(self, connection: _Connection, now: float) -> None:
        is_late = now >= connection.deadline
        if connection.phase is _Phase.ASKING:
            answer = self._respond(connection.request.path, connection.asked_at, is_late)
            if answer is not None or is_late:
                self._reply(connection, answer or Answer(500, "there is no answer\n"))
        elif is_late:
            self._drop(connection)

    def _read(self, connection: _Connection) -> None:
        data = connection.socket.recv(_CHUNK_BYTES)
        connection.received += data
        found = parse_request(connection.received)
        if isinstance(found, Answer):
            self._reply(connection, found)
        elif found is not None:
            connection.request = found
            connection.asked_at = time.monotonic()
            connection.enter(_Phase.ASKING, connection.asked_at, self._patience_s)
            self._selector.unregister(connection.socket)  # what comes behind it is not read
        elif not data:
            self._drop(connection)

    def _reply(self, connection: _Connection, answer: Answer) -> None:
        connection.to_send = answer.to_bytes(with_body=connection.request.wants_body)
        connection.enter(_Phase.WRITING, time.monotonic(), REPLY_S)
        self._watch(connection, selectors.EVENT_WRITE)

    def _write(self, connection: _Connection) -> None:
        sent = connection.socket.send(connection.to_send)
        connection.to_send = connection.to_send[sent:]
        if not connection.to_send:
            connection.socket.shutdown(socket.SHUT_WR)
            connection.enter(_Phase.LEAVING, time.monotonic(), LEAVE_S)
            self._watch(connection, selectors.EVENT_READ)

    def _ignore(self, connection: _Connection) -> None:
        data = connection.socket.recv(_CHUNK_BYTES)
        connection.ignored_bytes += len(data)
        if not data or connection.ignored_bytes > MAX_IGNORED_BYTES:
            self._drop(connection)

    def _watch(self, connection: _Connection, events: int) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(connection.socket)
        self._selector.register(connection.socket, events, connection)

    def _drop_oldest(self) -> bool:
        oldest = next(iter(self._connections), None)
        if oldest is not None:
            self._drop(oldest)
        return oldest is not None

    def _drop(self, connection: _Connection) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(connection.socket)
        self._connections.pop(connection, None)
        connection.close()
