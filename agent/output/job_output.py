"""The output of all attempts of one agent: carried once there is any, awaited at the end.

An attempt ends when its workers have ended, whether or not the console has taken all that they
printed: a restart must not wait for a reader that pauses. Its threads go on, and those of the next
attempt write when they have ended. Only the end of the job waits for them.
"""

from __future__ import annotations

import contextlib
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .outlets import Outlets


class JobOutput:
    """What the workers of an agent's attempts print.

    Args:
        wake: Wakes the agent's loop, from any thread.
    """

    __slots__ = ("_has_shown_all", "_outlets", "wake")

    def __init__(self, wake: Callable[[], object]) -> None:
        self.wake = wake
        self._outlets: list[Outlets] = []
        self._has_shown_all = True

    def add(self, outlets: Outlets) -> None:
        """Take up the pipes of a new attempt."""
        self._outlets.append(outlets)

    def wait_for_earlier(self) -> Callable[[], None]:
        """Return what waits until all attempts so far have written all."""
        self._forget_what_is_over()
        earlier = tuple(self._outlets)

        def wait() -> None:
            for each in earlier:
                each.join()

        return wait

    def fds(self) -> list[int]:
        """Return descriptors that are readable once ``tick`` has something to do."""
        return [each.silent_fd for each in self._outlets if each.silent_fd >= 0]

    def tick(self) -> None:
        """Have what workers print carried."""
        for each in self._outlets:
            each.carry_if_printed()

    @property
    def is_pending(self) -> bool:
        """Whether something is still to be written, once all attempts have ended."""
        return not all(each.join(0) for each in self._outlets)

    @property
    def has_shown_all(self) -> bool:
        """Whether the console has taken all that it was to show; False while it still may."""
        return self._has_shown_all and all(each.has_shown_all for each in self._outlets)

    def give_up(self) -> None:
        """Wait no longer for consoles that take nothing."""
        for each in self._outlets:
            each.give_up()

    def _forget_what_is_over(self) -> None:
        over = [each for each in self._outlets if each.is_drained and each.join(0)]
        self._has_shown_all = self._has_shown_all and all(each.has_shown_all for each in over)
        self._outlets = [each for each in self._outlets if each not in over]


def can_be_carried(fd: int) -> bool:
    """Return whether workers may print into pipes instead: on a terminal, or a device, they don't.

    Args:
        fd: The agent's standard error.
    """
    kind = _kind_of(fd)[0]
    return kind in (stat.S_IFIFO, stat.S_IFREG) or (kind == stat.S_IFSOCK and _is_stream(fd))


def _is_stream(fd: int) -> bool:
    import socket  # noqa: PLC0415  few are sockets

    with socket.socket(fileno=os.dup(fd)) as console:
        return console.type == socket.SOCK_STREAM  # else each write is a message


def is_one_file(fd: int, other: int) -> bool:
    """Return whether two descriptors lead to the same file, pipe or socket."""
    return _kind_of(fd) == _kind_of(other) != (0, 0, 0)


def _kind_of(fd: int) -> tuple[int, int, int]:
    with contextlib.suppress(OSError):  # it is closed
        status = os.fstat(fd)
        return stat.S_IFMT(status.st_mode), status.st_dev, status.st_ino
    return 0, 0, 0
