"""Says how much one call may write to a console, so that nobody else's words come in between.

A job's lines share their console with those of other programs: other agents, the shell. The kernel
lets one writer finish before the next as long as there is room for all that it writes.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import sys
import termios

EVERYTHING = sys.maxsize


class Steps:
    """What a descriptor takes by one step.

    Args:
        fd: The descriptor; stays its owner's.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._takes_everything = False
        self._pipe_bytes = 0
        try:
            kind = os.fstat(fd).st_mode
            is_device = stat.S_ISCHR(kind) and not os.isatty(fd)
            self._takes_everything = is_device or stat.S_ISREG(kind)
            if stat.S_ISFIFO(kind):
                self._pipe_bytes = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
        except OSError:  # it is closed, or the kernel doesn't tell
            return

    def most(self) -> int:
        """Return how many bytes one call may write now: a page at least.

        An empty pipe has room for half of its bytes, however they are cut into pages.
        """
        if self._takes_everything:
            return EVERYTHING
        if self._pipe_bytes and not self._is_filled():
            return max(select.PIPE_BUF, self._pipe_bytes // 2)
        return select.PIPE_BUF

    def _is_filled(self) -> bool:
        try:
            return fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4)) != bytes(4)
        except OSError:
            return True


def end_of_piece(text: bytes, start: int, most: int) -> int:
    """Return up to where one call should write: whole lines, if it takes one of them.

    Args:
        most: How many bytes are taken by one step.
    """
    stop = start + most
    return len(text) if stop >= len(text) else text.rfind(b"\n", start, stop) + 1 or stop
