"""One thread that waits for connections, and reads each when something has come.

The thread of a node's driver has such a loop. A store whose connection the loop can read needs no
thread of its own. While the driver waits for the answer to a call, its loop goes on: it reads this
connection and all others.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable

from ..threads import start_thread

# epoll counts milliseconds in 31 bits: a turn that was to last longer ends early.
_LONGEST_TURN_S = 86_400.0
_ENDING_S = 1.0


class Loop:
    """Waits for connections; one thread calls ``enter`` and then ``turn``, and reads them.

    Any thread may call the other methods.

    Raises:
        OSError: There is no descriptor left.
    """

    def __init__(self) -> None:
        self._wakes = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self._epoll = select.epoll()
            self._epoll.register(self._wakes, select.EPOLLIN)
        except OSError:
            os.close(self._wakes)
            raise
        self._thread: int | None = None
        # Only the loop's thread uses this: when each function is due.
        self._due: list[tuple[float, Callable[[], None]]] = []
        # The lock guards what follows, and the descriptors above against their end.
        self._lock = threading.Lock()
        self._is_closed = False
        self._readers: dict[int, Callable[[], None]] = {}

    @property
    def is_here(self) -> bool:
        """Whether the calling thread is the one that reads."""
        return self._thread == threading.get_ident()

    def add(self, number: int, read: Callable[[], None]) -> None:
        """Read a connection from now on.

        Args:
            number: Its descriptor.
            read: Reads what has come, and does not block. May be called once in vain: another
                thread may have closed the connection meanwhile.

        Raises:
            OSError: The kernel watches no more.
        """
        with self._lock:
            if not self._is_closed:
                self._epoll.register(number, select.EPOLLIN)
                self._readers[number] = read

    def remove(self, number: int) -> None:
        """Read a connection no longer.

        Args:
            number: Its descriptor, which is not closed yet: a closed one may have a new owner.
        """
        with self._lock:
            if self._readers.pop(number, None) is not None and not self._is_closed:
                self._epoll.unregister(number)

    def wake(self) -> None:
        """End the turn of the loop's thread, or its next one."""
        if self.is_here:
            return
        with self._lock:
            if not self._is_closed:
                os.eventfd_write(self._wakes, 1)

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call a function in a turn that ends after some seconds; the loop's own thread asks."""
        self._due.append((time.monotonic() + seconds, function))

    def enter(self) -> None:
        """Make the calling thread the one that reads."""
        self._thread = threading.get_ident()

    def turn(self, timeout_s: float | None) -> None:
        """Wait until a connection can be read, another thread wakes this one, or the time is over.

        Args:
            timeout_s: How long; None: as long as it takes. After a day the turn ends all the same.
        """
        most_s = _LONGEST_TURN_S if timeout_s is None else min(timeout_s, _LONGEST_TURN_S)
        if self._due:
            most_s = min(most_s, min(at for at, _ in self._due) - time.monotonic())
        for number, _ in self._epoll.poll(max(0.0, most_s)):
            if number == self._wakes:
                os.eventfd_read(self._wakes)
                continue
            with self._lock:
                read = self._readers.get(number)
            if read is not None:
                read()
        if self._due:
            self._call_due()

    def _call_due(self) -> None:
        now = time.monotonic()
        while due := [each for each in self._due if each[0] <= now]:
            self._due.remove(due[0])  # only this one: if it raises, the others are still due
            due[0][1]()

    def close(self) -> None:
        """End the loop; its own thread calls this, or no thread is in ``turn``."""
        with self._lock:
            self._is_closed, self._thread = True, None
            self._readers.clear()
            self._epoll.close()
            os.close(self._wakes)


class LoopOfOwn(Loop):
    """A loop with a thread of its own.

    Args:
        name: The thread's name.

    Raises:
        NoThreadError: The system grants no thread; nothing is left open.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._ends = False
        self._own = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            start_thread(self._own)
        except OSError:
            self.close()
            raise

    def end(self) -> None:
        """End the thread, and the loop with it."""
        self._ends = True
        self.wake()
        if not self.is_here:
            self._own.join(_ENDING_S)

    def _run(self) -> None:
        self.enter()
        try:
            while not self._ends:
                self.turn(None)
        finally:
            self.close()
