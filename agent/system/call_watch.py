"""Notices calls that should be short and are not: writing to a file system that has hung."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ...rendezvous.threads import start_thread

_LOOK_S = 0.5
_LEAVE_S = 1.0  # it may be telling, which waits for a console


class CallWatch:
    """Watches one thread's calls, from a thread of its own, which sleeps while there are none.

    Args:
        patience_s: How long a call may take.
        on_wait: Called in the watching thread, once for a call that takes half a second.
        on_hang: Called in the watching thread with what takes longer than it may, once for a call.
    """

    def __init__(
        self, patience_s: float, on_wait: Callable[[], None], on_hang: Callable[[str], None]
    ) -> None:
        self._patience_s = patience_s
        self._look_s = min(_LOOK_S, patience_s)
        self._on_wait = on_wait
        self._on_hang = on_hang
        self._calls = 0
        self._next = ""
        self.current = ""
        """What is being called now."""
        self._is_wanted = threading.Event()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="elrun-watch", daemon=True)
        self.late = ""
        """What takes longer than it may, at the last look; "" if nothing does."""

    def start(self) -> None:
        """Begin to watch; called once."""
        start_thread(self._thread)

    def during(self, name: str) -> CallWatch:
        """Return a context in which a call is watched; they do not nest."""
        self._next = name
        return self

    def __enter__(self) -> None:
        self.current = self._next
        self._calls += 1
        if not self._is_wanted.is_set():
            self._is_wanted.set()

    def __exit__(self, *_: object) -> None:
        self.current = ""

    def close(self) -> None:
        """End the watch."""
        self._is_closed.set()
        self._is_wanted.set()
        if self._thread.is_alive():
            self._thread.join(_LEAVE_S)

    def _watch(self) -> None:
        calls, waited_s = 0, 0.0
        while True:
            self._is_wanted.wait()
            if self._is_closed.wait(self._look_s):
                return
            name, is_as_before = self.current, calls == self._calls
            if name and is_as_before:
                if not waited_s:
                    self._on_wait()
                waited_s += self._look_s
                if waited_s >= self._patience_s and not self.late:
                    self.late = name
                    self._on_hang(name)
                continue
            waited_s, self.late = 0.0, ""
            if is_as_before:
                self._is_wanted.clear()
                # A call that has begun since, or the end, saw no need to wake anybody.
                if calls != self._calls or self._is_closed.is_set():
                    self._is_wanted.set()
            calls = self._calls
