"""A way to end a blocked wait from another thread or a signal handler: a pipe to oneself."""

from __future__ import annotations

import contextlib
import os


class Wakeup:
    """A flag that a thread can wait for with ``poll``: readable from ``notify`` until ``clear``."""

    __slots__ = ("_read_fd", "_write_fd")

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._read_fd

    @property
    def notify_fd(self) -> int:
        """The descriptor that a byte may be written to, as ``signal.set_wakeup_fd`` does."""
        return self._write_fd

    def notify(self) -> None:
        """Make the descriptor readable; from any thread, also after ``close``."""
        # A full pipe is readable, which is all that counts; a closed one has no reader.
        with contextlib.suppress(OSError):
            os.write(self._write_fd, b"\0")

    def clear(self) -> None:
        """Make the descriptor unreadable until the next ``notify``."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read_fd, 4096):
                pass

    def close(self) -> None:
        """Give the pipe back; later notifications go nowhere."""
        read_fd, write_fd, self._read_fd, self._write_fd = self._read_fd, self._write_fd, -1, -1
        for fd in (read_fd, write_fd):
            if fd >= 0:
                os.close(fd)


class Urgency(Wakeup):
    """Ends the time that workers have; ``reason`` says what has done so, as a sentence."""

    __slots__ = ("reason",)

    def __init__(self) -> None:
        super().__init__()
        self.reason = ""

    def declare(self, reason: str) -> None:
        """End that time; only the first reason counts."""
        if not self.reason:
            self.reason = reason
            self.notify()
