"""Waits that take as long as they take, each in a thread with a connection of its own.

A thread that has waited is kept, with its connection, for the next wait: a node waits for its place
in a round, then for that round's verdict, then for its next place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

from ...errors import RendezvousError
from ...threads import start_thread
from ..store import as_wait

Outcome = list[bytes] | RendezvousError
"""The values that were waited for, or why there are none."""


class Wait:
    """One wait for several keys: it ends once, in one way.

    Args:
        keys: What is waited for.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.keys = keys
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._outcome: Outcome | None = None
        self._hearers: list[Callable[[Outcome], None]] = []

    def result(self, timeout_s: float | None) -> Outcome | None:
        """Return how the wait ended; None if it goes on after the time-out."""
        self._is_over.wait(as_wait(timeout_s))
        return self._outcome

    def subscribe(self, hear: Callable[[Outcome], None]) -> None:
        """Have ``hear`` called with the outcome: at once, or by the thread that ends the wait.

        Args:
            hear: Neither blocks nor raises.
        """
        with self._lock:
            outcome = self._outcome
            if outcome is None:
                self._hearers.append(hear)
                return
        hear(outcome)

    def end(self, outcome: Outcome) -> None:
        """End it, unless it has ended."""
        with self._lock:
            if self._outcome is not None:
                return
            self._outcome = outcome
        self._is_over.set()
        for hear in self._hearers:
            hear(outcome)


class Waits:
    """The waits that go on over one store.

    Args:
        connect: Opens a connection.
        block: Returns the values of several keys over a connection, once all are there.

    Both raise nothing but RendezvousError.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        block: Callable[[Any, Sequence[str]], list[bytes]],
    ) -> None:
        self._connect = connect
        self._block = block
        # What follows is written under the lock.
        self._lock = threading.Lock()
        self._busy: dict[tuple[str, ...], tuple[Wait, _Waiter]] = {}
        self._idle: list[_Waiter] = []
        self._closed: RendezvousError | None = None

    def begin(self, keys: Sequence[str]) -> Wait:
        """Return the wait for these keys, which goes on from now, or has gone on for a while."""
        wanted = tuple(keys)
        with self._lock:
            if wanted in self._busy:
                return self._busy[wanted][0]
            wait = Wait(wanted)
            if self._closed is not None:
                wait.end(self._closed)
                return wait
            waiter = self._idle.pop() if self._idle else _Waiter(self._serve)
            self._busy[wanted] = wait, waiter
            waiter.assign(wait)
            return wait

    def fail(self, error: RendezvousError) -> None:
        """End the waits that go on; their threads stay until they can return."""
        with self._lock:
            waits = [wait for wait, _ in self._busy.values()]
        for wait in waits:
            wait.end(error)

    def close(self, error: RendezvousError, busy_for_s: float, idle_for_s: float) -> None:
        """End all waits, and let go of the connections.

        Args:
            error: What whoever waits, or comes to do so, is told.
            busy_for_s: For how long to await the threads that wait.
            idle_for_s: For how long to await those that don't.
        """
        with self._lock:
            self._closed = error
            idle, self._idle = self._idle, []
            busy = list(self._busy.values())
            self._busy.clear()
        for waiter in idle:
            waiter.assign(None)
        for wait, _ in busy:
            wait.end(error)
        now = time.monotonic()
        for waiter in idle:
            waiter.join(now + idle_for_s - time.monotonic())
        for _, waiter in busy:
            waiter.join(now + busy_for_s - time.monotonic())

    def _serve(self, waiter: _Waiter) -> None:
        """Wait for one thing after the other, until there is no more or the connection fails."""
        connection = None
        while (wait := waiter.next_wait()) is not None:
            outcome: Outcome
            try:
                connection = connection or self._connect()
                outcome = self._block(connection, wait.keys)
            except RendezvousError as error:
                outcome, connection = error, None
            with self._lock:
                if self._busy.get(wait.keys, (None,))[0] is wait:
                    del self._busy[wait.keys]
                is_wanted = connection is not None and self._closed is None
                if is_wanted:  # also by those who hear of this and then begin the next wait
                    self._idle.append(waiter)
            wait.end(outcome)
            if not is_wanted:
                return


class _Waiter:
    """A thread, and what it is to wait for next."""

    def __init__(self, serve: Callable[[_Waiter], None]) -> None:
        self._assigned: SimpleQueue[Wait | None] = SimpleQueue()
        self._thread = start_thread(
            threading.Thread(target=serve, args=(self,), name="elrun-store-wait", daemon=True)
        )

    def assign(self, wait: Wait | None) -> None:
        """Give it the next wait; None ends the thread."""
        self._assigned.put(wait)

    def next_wait(self) -> Wait | None:
        return self._assigned.get()

    def join(self, timeout_s: float) -> None:
        self._thread.join(max(0.0, timeout_s))
