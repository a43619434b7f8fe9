"""The server of a store: one thread, one loop, all of a job's keys.

Nothing that a client sends, or leaves unsent, can end it or hold it up: a message that is not
understood ends its connection, and so does a client that never reads. A client that does not
introduce itself is let go after a few seconds, and only so many may be silent at a time.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
from _queue import Empty, SimpleQueue  # `queue` takes two million instructions for other ones
from collections.abc import Callable, Mapping

from ...threads import NoThreadError, start_thread
from .connections import Connections
from .door import Door
from .entrance import Entrance
from .guests import ClientLimits, Guests
from .peer import Peer

# What clients without a hello get of one turn; the others among them wait for the next turn.
_STRANGERS_S = 0.02
# What clients that ask for much get of one turn, and what they and others have left to be done.
_COSTLY_S = 0.02


class StoreServer:
    """Serves the keys of one job, from ``start`` to ``close``.

    Args:
        entrance: Takes clients as far as their hello; by default, anybody's.

    Attributes:
        mark: What tells this store from all others.
    """

    def __init__(
        self,
        guests: Guests,
        name: str,
        limits: ClientLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        entrance: Entrance | None = None,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self.mark = os.urandom(8).hex()
        self._clock = clock
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._commands: SimpleQueue[tuple[Callable[[], None], threading.Event]] = SimpleQueue()
        self._lock = threading.Lock()
        self._has_ended = False
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="elrun-store", daemon=True)
        # What follows belongs to the server's thread.
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._door = Door(guests, self._selector)
        self._connections = Connections(
            guests,
            entrance or Entrance(),
            self.mark,
            name,
            limits or ClientLimits(),
            self._selector,
            clock,
            lambda: self._door.move(clock()),
            cpu_clock,
        )

    def start(self) -> None:
        """Begin to serve.

        Raises:
            NoThreadError: The system grants no thread; nothing is left open.
        """
        try:
            start_thread(self._thread)
        except NoThreadError:
            self._release()
            raise

    def adopt(self, connection: socket.socket) -> None:
        """Serve a connection from within this process: it needs no secret and no certificate."""
        self._do(lambda: self._connections.greet(connection, ""))

    def listen(self, listener: socket.socket) -> None:
        """Accept connections at a socket, while a node is missing.

        Args:
            listener: Stays the caller's.
        """
        listener.setblocking(False)
        self._do(lambda: self._door.set_listener(listener, self._clock()))

    def stop_listening(self) -> None:
        """Accept no more; when this returns, the socket is left alone."""
        self._do(lambda: self._door.set_listener(None, self._clock()))

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
            self._release()
            with contextlib.suppress(Empty):
                while True:
                    self._commands.get_nowait()[1].set()

    def _release(self) -> None:
        self._connections.close()
        self._selector.close()
        os.close(self._wake)

    def _turn(self) -> None:
        now = self._clock()
        self._connections.end_overdue(now)
        has_work = self._connections.work(now + _COSTLY_S)
        self._door.move(now)
        dues = [self._connections.changes_in_s(now), self._door.changes_in_s(now)]
        due_in_s = min((max(0.0, each) for each in dues if each is not None), default=None)
        costly = dict.fromkeys(self._connections.unread.values(), selectors.EVENT_READ)
        strangers: dict[Peer, int] = {}
        can_accept = False
        for key, events in self._selector.select(0.0 if costly or has_work else due_in_s):
            if key.data is None:
                if self._door.is_at(key.fileobj):
                    can_accept = True
                else:
                    self._obey()
            elif key.data.is_costly:
                costly[key.data] = costly.get(key.data, 0) | events
            elif key.data.session is not None:
                self._connections.attend(key.data, events)
            else:
                strangers[key.data] = events
        deferred = self._attend(strangers, _STRANGERS_S)
        # More strangers would take the place of those that have spoken and were not heard yet.
        if can_accept and all(peer.first_bytes for peer in deferred):
            self._accept()
        self._attend(costly, _COSTLY_S)

    def _attend(self, peers: Mapping[Peer, int], for_s: float) -> list[Peer]:
        """Attend to some for a moment, those first that have waited for the longest.

        Returns:
            The others.
        """
        now = self._clock()
        ends_at = now + for_s
        in_order = sorted(peers, key=lambda each: each.attended_at)
        for count, peer in enumerate(in_order, 1):
            self._connections.attend(peer, peers[peer])
            peer.attended_at, now = now, self._clock()
            if now >= ends_at:
                return in_order[count:]
        return []

    def _accept(self) -> None:
        now = self._clock()
        for connection, name in self._door.accept(now, self._connections.room(now)):
            self._connections.greet(connection, name)

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
