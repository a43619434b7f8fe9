"""A small HTTP server for short requests, which no client can delay or fill.

It listens at a TCP port (the health page) or at a socket in the folder of a run (`elrun status`).

One thread serves all clients; it sleeps until a client connects. A connection carries one request:
GET or HEAD, without a body. There is a limit for the number of connections, for the length of a
request, and for the time of each step. If there are too many connections, the oldest one is closed,
so a client that sends its request at once gets an answer in any crowd.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import selectors
import socket
import threading
import time
from collections.abc import Callable

from ...rendezvous.logs import Log
from ...rendezvous.threads import start_daemon
from ..system.wakeup import Wakeup
from .http_messages import Answer, Request, parse_request

log = Log(__name__)

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
"""Returns the answer to a request, from its path and the time of ``time.monotonic()`` it came at.

None: there is no answer yet. The function is called again at each ``recheck``, and a last time when
the patience ends, with True as the third argument; then it must not return None.
"""


class _Phase(enum.Enum):
    READING = "the request is read"
    ASKING = "the server waits for the answer"
    WRITING = "the answer is sent"
    LEAVING = "further data is ignored; if it were unread at the close, the answer would be lost"


class _Connection:
    """One client: the data it has sent, the data to send, and the deadline of its phase."""

    def __init__(self, client: socket.socket, now: float) -> None:
        self.socket = client
        self.received = b""
        self.request = Request("", wants_body=True)
        self.asked_at = 0.0
        self.to_send: list[memoryview] = []
        self.ignored_bytes = 0
        self.enter(_Phase.READING, now, REQUEST_S)

    def enter(self, phase: _Phase, now: float, time_s: float) -> None:
        self.phase = phase
        self.deadline = now + time_s

    def close(self) -> None:
        # First shutdown: a forked worker may hold the socket open, too.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


class HttpServer:
    """Answers requests at one address until it is stopped.

    Args:
        listen: Returns the listening socket.
        respond: Returns answers; called in the server's thread.
        patience_s: How long ``respond`` may return None for one request.
        admits: Says whether a connection is one to be heard; others are closed at once.
        on_wake: Called in the server's thread after each ``recheck``, before ``respond``.
    """

    def __init__(
        self,
        listen: Callable[[], socket.socket],
        respond: Respond,
        patience_s: float = 0.0,
        admits: Callable[[socket.socket], bool] = lambda _: True,
        on_wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._listen = listen
        self._respond = respond
        self._patience_s = patience_s
        self._admits = admits
        self._on_wake = on_wake
        self._wake = Wakeup()
        self._selector = selectors.DefaultSelector()
        self._connections: dict[_Connection, None] = {}  # a set in order: the oldest first
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._resume_at: float | None = None
        self._beginning = threading.Lock()
        self._is_stopping = False

    def start(self) -> socket.socket:
        """Serve in a thread; return the listening socket.

        Raises:
            OSError: It can't be listened there.
        """
        listener = self._begin()
        self._thread = start_daemon(self._serve, "elrun-health")
        return listener

    def serve(self) -> None:
        """Serve in the caller's thread, until another one calls ``stop``, or has called it.

        Raises:
            OSError: It can't be listened there.
        """
        with self._beginning:
            if self._is_stopping:
                return
            self._thread = threading.current_thread()
            self._begin()
        self._serve()

    def _begin(self) -> socket.socket:
        self._listener = self._listen()
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake.fileno(), selectors.EVENT_READ)
        return self._listener

    def recheck(self) -> None:
        """Call ``respond`` again for each request without an answer; from any thread."""
        self._wake.notify()

    def stop(self) -> None:
        """Close all connections and the address."""
        with self._beginning:
            self._is_stopping = True
        self._wake.notify()
        if self._thread is not None:
            self._thread.join(_STOP_S)
            if self._thread.is_alive():  # a callback hangs: the thread keeps its descriptors
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
            self._on_wake()
            for key, _ in ready:
                if key.fileobj is self._listener:
                    self._accept()
                elif key.data in self._connections:  # a newer connection may have replaced it
                    self._continue(key.data)
            for connection in list(self._connections):
                self._check(connection, time.monotonic())
            if self._resume_at is not None and time.monotonic() >= self._resume_at:
                self._listen_again()

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
        if not self._admits(client):
            client.close()
            return
        client.setblocking(False)
        if len(self._connections) >= MAX_CONNECTIONS:
            self._drop_oldest()
        connection = _Connection(client, time.monotonic())
        self._connections[connection] = None
        self._watch(connection, selectors.EVENT_READ)

    def _pause(self) -> None:
        """Accept nothing for a second: without a free descriptor the listener stays readable."""
        if self._listener is not None:
            self._selector.unregister(self._listener)
        self._resume_at = time.monotonic() + _PAUSE_S

    def _listen_again(self) -> None:
        self._resume_at = None
        if self._listener is not None:
            self._selector.register(self._listener, selectors.EVENT_READ)

    def _continue(self, connection: _Connection) -> None:
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
        except OSError:  # the client has gone
            self._drop(connection)

    def _check(self, connection: _Connection, now: float) -> None:
        is_late = now >= connection.deadline
        if connection.phase is _Phase.ASKING:
            answer = self._answer_to(connection, is_late=is_late)
            if answer is not None or is_late:
                self._reply(connection, answer or Answer(500, "there is no answer\n"))
        elif is_late:
            self._drop(connection)

    def _answer_to(self, connection: _Connection, *, is_late: bool) -> Answer | None:
        path = connection.request.path
        try:
            return self._respond(path, connection.asked_at, is_late)
        except Exception as error:  # noqa: BLE001  a user's callback; other clients are answered
            log.warning("a request for %s can't be answered: %r", path, error)
            return Answer(500, f"there is no answer: {error!r}\n")

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
            self._selector.unregister(connection.socket)  # no data after the request is read
        elif not data:
            self._drop(connection)

    def _reply(self, connection: _Connection, answer: Answer) -> None:
        head, body = answer.to_bytes()
        # The body is shared by all that have been given the same answer.
        parts = (head, body) if connection.request.wants_body else (head,)
        connection.to_send = [memoryview(part) for part in parts if part]
        connection.enter(_Phase.WRITING, time.monotonic(), REPLY_S)
        self._watch(connection, selectors.EVENT_WRITE)

    def _write(self, connection: _Connection) -> None:
        sent = connection.socket.sendmsg(connection.to_send)
        while connection.to_send and sent >= len(connection.to_send[0]):
            sent -= len(connection.to_send.pop(0))
        if connection.to_send:
            connection.to_send[0] = connection.to_send[0][sent:]
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
