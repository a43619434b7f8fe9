"""Where the output of one attempt's workers goes besides what they inherit from the agent.

Streams that have a log file, marks or filters go through the pump. Standard error that would simply
be inherited goes through the carrier, which keeps its end.

An attempt ends when its workers have ended, whether or not the console has taken all that they
printed: a restart must not wait for a reader that pauses. Its threads go on, and those of the next
attempt write when they have ended. Only the end of the job waits for them.
"""

from __future__ import annotations

import contextlib
import os
import stat

from .carrier import Carrier
from .specs import LogsDest, is_any_carried

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..system.left_files import LeftFile
    from .pump import OutputPump


class Outlets:
    """The pipes of one attempt's workers.

    Args:
        dest: Where each stream goes.
        prefixes: What stands before each line of a worker that is shown, by local rank.
        name: What the workers are called: their role.
        filters: Words for lines of standard output, and of standard error, that are kept aside.
        keeps_end: Whether the end of what would be inherited is kept.
        begin: Called in a thread before it writes to a console; it may block.
        on_end: Called in a thread when it ends.

    Raises:
        OSError: A pipe can't be made.
    """

    def __init__(
        self,
        dest: LogsDest,
        nprocs: int,
        prefixes: dict[int, str] | None,
        name: str,
        filters: tuple[Sequence[str] | None, Sequence[str] | None],
        *,
        keeps_end: bool,
        begin: Callable[[], object] = lambda: None,
        on_end: Callable[[], object] = lambda: None,
    ) -> None:
        self._pump = _pump_for(dest, nprocs, prefixes, name, filters, begin=begin, on_end=on_end)
        self.is_drained = False
        """Whether all workers have ended."""
        self._carrier: Carrier | None = None
        pump = self._pump
        stderrs = [rank for rank in range(nprocs) if pump is None or pump.stderr_fd(rank) is None]
        stdouts = [rank for rank in stderrs if pump is None or pump.stdout_fd(rank) is None]
        if keeps_end and stderrs:
            try:
                same = stdouts if is_one_file(1, 2) else ()
                self._carrier = Carrier(stderrs, same, begin=begin, on_end=on_end)
            except OSError:  # no descriptor is left
                if pump is not None:
                    pump.drain()
                raise

    def stdout_fd(self, local_rank: int) -> int | None:
        """Return what a worker's fd 1 must become, None where it inherits the agent's."""
        fds = (each.stdout_fd(local_rank) for each in self._both())
        return next((fd for fd in fds if fd is not None), None)

    def stderr_fd(self, local_rank: int) -> int | None:
        """Return what a worker's fd 2 must become, None where it inherits the agent's."""
        fds = (each.stderr_fd(local_rank) for each in self._both())
        return next((fd for fd in fds if fd is not None), None)

    def start(self) -> None:
        """Begin to carry; called once, when all workers have their ends of the pipes.

        Raises:
            NoThreadError: The system grants no more threads.
        """
        if self._pump is not None:
            self._pump.start()

    @property
    def silent_fd(self) -> int:
        """Readable once ``carry_if_printed`` has something to do; -1: it never will."""
        return -1 if self._carrier is None else self._carrier.silent_fd

    def carry_if_printed(self) -> None:
        """Begin to carry standard error if a worker has printed something."""
        if self._carrier is not None:
            self._carrier.carry_if_printed()

    def carry(self) -> None:
        """Begin to carry standard error in any case: nobody will look for a while."""
        if self._carrier is not None:
            self._carrier.carry()

    def drain(self) -> None:
        """Carry what is still in the pipes, then close them; log files are complete afterwards.

        Called when all workers have ended. The console may take longer: see ``join``.
        """
        self.is_drained = True
        for each in self._both():
            each.drain()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the console has taken all, after ``drain``; return whether that is over.

        Args:
            timeout_s: How long; None: as long as it takes.
        """
        return not [each for each in self._both() if not each.join(timeout_s)]

    def give_up(self) -> None:
        """Wait no longer for a console that takes nothing."""
        for each in self._both():
            each.give_up()

    def end_of(self, local_rank: int) -> LeftFile:
        """Return the end of a worker's standard error, as far as no log file has it."""
        from ..system.left_files import LeftFile  # failures only

        if self._pump is not None and (lost := self._pump.lost_end(local_rank)):
            from .streams import LOST_BYTES  # few failures

            return LeftFile(lost, is_whole=len(lost) < LOST_BYTES)
        if self._carrier is None:
            return LeftFile()
        text, is_whole = self._carrier.end_of(local_rank)
        return LeftFile(text, is_whole)

    def carried_output(self) -> dict[int, tuple[int, bytes]]:
        """Return how much was printed that has no log file, and its end, by local rank."""
        return {} if self._carrier is None else self._carrier.carried_output()

    def carried_bytes(self) -> dict[int, int]:
        """Return how much workers have printed that is carried, by local rank, from any thread."""
        found: dict[int, int] = {}
        for each in self._both():
            for rank, count in each.carried_bytes().items():
                found[rank] = found.get(rank, 0) + count
        return found

    def kept_ends(self) -> dict[int, tuple[bytes, float | None, int]]:
        """Return the last of what was read that has no log file; see ``Carrier``."""
        return {} if self._carrier is None else self._carrier.kept_ends()

    @property
    def has_handed_on(self) -> bool:
        """Whether a process that a worker left running goes on to print into a log file."""
        return self._pump is not None and self._pump.has_handed_on

    @property
    def has_shown_all(self) -> bool:
        """Whether the console has taken all that it was to show."""
        return self._pump is None or self._pump.has_shown_all

    def _both(self) -> list[OutputPump | Carrier]:
        return [each for each in (self._pump, self._carrier) if each is not None]


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
    import socket  # few are sockets

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


def _pump_for(
    dest: LogsDest,
    nprocs: int,
    prefixes: dict[int, str] | None,
    name: str,
    filters: tuple[Sequence[str] | None, Sequence[str] | None],
    *,
    begin: Callable[[], object],
    on_end: Callable[[], object],
) -> OutputPump | None:
    stdout_filters, stderr_filters = filters
    if not is_any_carried(
        dest, nprocs, filters_stdout=bool(stdout_filters), filters_stderr=bool(stderr_filters)
    ):
        return None
    from .pump import OutputPump  # many jobs have no log files

    return OutputPump(
        dest,
        nprocs,
        prefixes,
        name,
        stdout_filters,
        stderr_filters,
        begin=begin,
        on_end=on_end,
    )
