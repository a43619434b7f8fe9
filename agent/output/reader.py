"""Reads the pipes that workers print into, and gives what comes out to outlets.

The one loop for all that elrun carries: for log files and the console (`pump`), and for standard
error whose end is kept (`carrier`). It runs in a thread of its user's.

A worker that prints without a buffer (``python -u``) would wake it at each write. So after a look
that found no pipe nearly full, it leaves the pipes alone for 2 ms: up to 8 ms while workers print
megabytes a second and still leave most of their pipes empty, for a look costs as much as carrying
a thousand lines. The first words after a silence pass at once, and so does the end of their line,
which ``python -u`` writes by a call of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import threading
import time

from ..system.pidfd import close_all, milliseconds_until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Protocol

    class Outlet(Protocol):
        """Takes what one pipe carries."""

        @property
        def is_held_up(self) -> bool:
            """Whether the pipe is better left alone until ``PipeReader.wake`` is called."""

        @property
        def due_at(self) -> float | None:
            """When ``show_beginning`` is to be called, if no bytes come before."""

        def take(self, chunk: bytes, now: float) -> None:
            """Take the next bytes, which came at ``now`` by ``time.monotonic()``."""

        def show_beginning(self) -> None:
            """Pass on what there is of a line that has not ended."""

        def finish(self) -> None:
            """Pass on all that is left: no more is read."""


_REST_MS = 2
_LONGEST_REST_MS = 8
_MUCH_BYTES = 16 << 10
_SILENCE_S = 0.001
_MOST_OF_A_PIPE = 1 << 20  # a worker may have made its own as large


class PipeReader:
    """Reads the pipes of one attempt's workers.

    Args:
        outlets: What takes the bytes of each pipe, an ``Outlet``, by the descriptor that is read,
            which does not block. The reader closes each and takes it out of the map.
        pipe_bytes: How much a pipe holds.
        before_read: Called with a descriptor before it is read.

    Raises:
        OSError: There are no descriptors.
    """

    def __init__(
        self,
        outlets: dict[int, Any],
        pipe_bytes: int,
        before_read: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._outlets = outlets
        self._before_read = before_read
        self._rests = Rests(_least_held(outlets, pipe_bytes))
        # One buffer for all reads: malloc would fetch each one's memory from the kernel.
        self._buffer = memoryview(bytearray(pipe_bytes))
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._wake_lock = threading.Lock()
        self._is_stopping = False
        self._lock = threading.Lock()  # another thread may read a pipe instead

    def fileno(self) -> int:
        """Return a descriptor that ``wake`` makes readable."""
        return self._wake_fd

    def wake(self) -> None:
        """Have the reader look at all outlets again; from any thread."""
        with self._wake_lock:
            if self._wake_fd >= 0:
                os.eventfd_write(self._wake_fd, 1)

    def stop(self) -> None:
        """Have ``looks`` take what is in the pipes now, and end; from any thread."""
        self._is_stopping = True
        self.wake()

    def looks(self) -> Iterator[None]:
        """Read what is printed, look by look, until all pipes have ended or ``stop`` is called."""
        # No epoll: it would go on about a pipe that was closed here, but is still held by a process
        # that the agent forked.
        ready, rest = select.poll(), select.poll()
        rest.register(self._wake_fd, select.POLLIN)
        for fd in (self._wake_fd, *self._outlets):
            ready.register(fd, select.POLLIN)
        held_up: set[int] = set()
        while self._outlets and not self._is_stopping:
            due = [at for each in self._outlets.values() if (at := each.due_at) is not None]
            begun_at = time.monotonic()
            fds = [fd for fd, _ in ready.poll(milliseconds_until(min(due)) if due else None)]
            was_silent = time.monotonic() - begun_at > _SILENCE_S
            if self._wake_fd in fds:
                fds.remove(self._wake_fd)
                self.clear()
                for fd in held_up:
                    ready.register(fd, select.POLLIN)
                held_up.clear()
            most, is_part = 0, False
            with self._lock:
                if due:
                    self._show_what_is_due()
                for fd in fds:
                    if self._outlets[fd].is_held_up:
                        held_up.add(fd)
                    elif (size := self._read(fd)) >= 0:
                        most = max(most, size)
                        is_part = is_part or self._outlets[fd].due_at is not None
                        continue
                    else:
                        self._outlets.pop(fd).finish()
                        os.close(fd)
                    ready.unregister(fd)
            yield
            if rest_ms := self._rests.after(most, begins_line=was_silent and is_part):
                rest.poll(rest_ms)

    def clear(self) -> None:
        """Make the descriptor unreadable until the next ``wake``."""
        try:
            os.eventfd_read(self._wake_fd)
        except BlockingIOError:
            return

    def read_last(self) -> list[int]:
        """Take what is left in the pipes; return those that another process holds open."""
        with self._lock:
            have_ended = [fd for fd in self._outlets if self._read_all(fd)]
            for outlet in self._outlets.values():
                outlet.finish()
            for fd in have_ended:
                del self._outlets[fd]
                os.close(fd)
            return [*self._outlets]

    def read_now(self, fd: int) -> None:
        """Take what is in one pipe now, in another thread than the reader's."""
        with self._lock:
            if fd in self._outlets:
                self._read_all(fd)
        self.wake()

    def close(self) -> None:
        """Close the pipes that are left, and the reader."""
        with self._lock, self._wake_lock:
            close_all([*self._outlets, *({self._wake_fd} - {-1})])
            self._outlets.clear()
            self._wake_fd = -1

    def _show_what_is_due(self) -> None:
        now = time.monotonic()
        for each in self._outlets.values():
            if each.due_at is not None and each.due_at <= now:
                each.show_beginning()

    def _read(self, fd: int) -> int:
        """Return how many bytes a pipe had; -1: it has ended."""
        self._before_read(fd)
        try:
            size = os.readv(fd, [self._buffer])
        except BlockingIOError:  # there is nothing; or another thread has read it
            return 0
        if size:
            self._outlets[fd].take(bytes(self._buffer[:size]), time.monotonic())
        return size or -1

    def _read_all(self, fd: int) -> bool:
        """Read what is in a pipe now; return whether it has ended."""
        read_bytes = 0
        while read_bytes < _MOST_OF_A_PIPE:  # who goes on to print is no worker
            size = self._read(fd)
            if size <= 0:
                return size < 0
            read_bytes += size
        return False


class Rests:
    """Says how long pipes are left alone after a look, by how much it found.

    Args:
        pipe_bytes: How much the smallest pipe holds.
    """

    def __init__(self, pipe_bytes: int) -> None:
        self._quarter_bytes = pipe_bytes // 4
        self._rest_ms = _REST_MS

    def after(self, most_bytes: int, *, begins_line: bool = False) -> int:
        """Return the milliseconds until the next look; 0: it is due at once.

        Args:
            most_bytes: What was in the fullest pipe; a worker may be waiting for room in it.
            begins_line: Whether this look ended a silence, and found a line without its end.
        """
        if begins_line or most_bytes >= 3 * self._quarter_bytes:
            self._rest_ms = _REST_MS
            return 0
        if most_bytes < _MUCH_BYTES:
            self._rest_ms = _REST_MS
        elif most_bytes < self._quarter_bytes:
            self._rest_ms = min(_LONGEST_REST_MS, self._rest_ms + 1)
        elif most_bytes > 2 * self._quarter_bytes:
            self._rest_ms = max(_REST_MS, self._rest_ms - 1)
        return self._rest_ms


def _least_held(fds: Iterable[int], wished: int) -> int:
    """Return how many bytes the smallest pipe holds; the kernel may refuse what was wished."""
    sizes = [wished]
    for fd in fds:
        with contextlib.suppress(OSError):  # it is no pipe, or the kernel doesn't tell
            sizes.append(fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ))
    return min(sizes)
