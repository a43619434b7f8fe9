"""Sees to it that there can be as many open files as a worker group needs, at its end too."""

from __future__ import annotations

import contextlib
import os

_FOR_THE_AGENT = 64
_FOR_A_WORKER = 12
"""Both ends of two pipes, two log files, a pidfd, and what a function comes and goes by."""


_FOR_A_STOP = 8


class Reserve:
    """Descriptors that are kept free for a stop: a program may have used up all others by then.

    Raises:
        OSError: There are not as many.
    """

    def __init__(self) -> None:
        self.fds: list[int] = []
        try:
            for _ in range(_FOR_A_STOP):
                self.fds.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            self.spend()
            raise

    def spend(self) -> None:
        """Give them to whoever opens something next."""
        while self.fds:
            os.close(self.fds.pop())


def make_room_for(workers: int) -> None:
    """Raise this process's limit of open files as far as it takes and may be raised.

    Systems set it to 1,024 by default, which is for the sake of programs that use ``select``, and
    allow much more to those that ask. Workers inherit it.

    Args:
        workers: How many are about to be started.
    """
    wanted = len(os.listdir("/proc/self/fd")) + _FOR_THE_AGENT + _FOR_A_WORKER * workers
    if os.sysconf("SC_OPEN_MAX") >= wanted:
        return
    import resource  # few jobs

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    with contextlib.suppress(OSError, ValueError):  # then what lacks descriptors says so
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
