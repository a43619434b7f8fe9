"""Notices calls that should be short and are not: writing to a file system that has hung."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ...rendezvous.threads import start_thread

_LEAVE_S = 1.0  # it may be telling, which waits for a console


class HangWatch:
    """Watches one thread's calls, from a thread of its own, which sleeps while there are none.

    Args:
        patience_s: How long a call may take.
        tell: Called in the watching thread with what takes longer, again while it does.
    """

    def __init__(self, patience_s: float, tell: Callable[[str], None]) -> None:
        self._patience_s = patience_s
        self._tell = tell
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

    def during(self, name: str) -> HangWatch:
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
        while True:
            self._is_wanted.wait()
            calls = self._calls
            if self._is_closed.wait(self._patience_s):
                return
            self.late = self.current if calls == self._calls else ""
            if self.late:
                self._tell(self.late)
            elif calls == self._calls and not self.current:
                self._is_wanted.clear()
                if calls != self._calls:  # a call has begun since, and saw no need to wake anybody
                    self._is_wanted.set()
