"""Where the output of one attempt's workers goes besides what they inherit from the agent.

Streams that have a log file, marks or filters go through the pump. Standard error that would simply
be inherited goes through the carrier, which keeps its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .carrier import Carrier
from .specs import LogsDest, is_any_carried, is_one_file

if TYPE_CHECKING:
    from ..system.left_files import LeftFile
    from .pump import OutputPump

_DRAIN_S = 10.0


class Outlets:
    """The pipes of one attempt's workers.

    Args:
        dest: Where each stream goes.
        nprocs: Number of workers.
        prefixes: What stands before each line of a worker that is shown, by local rank.
        name: What the workers are called: their role.
        filters: Words for lines of standard output, and of standard error, that are kept aside.
        keeps_end: Whether the end of what would be inherited is kept.

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
    ) -> None:
        self._pump = _pump_for(dest, nprocs, prefixes, name, filters)
        self._carrier: Carrier | None = None
        pump = self._pump
        stderrs = [rank for rank in range(nprocs) if pump is None or pump.stderr_fd(rank) is None]
        stdouts = [rank for rank in stderrs if pump is None or pump.stdout_fd(rank) is None]
        if keeps_end and stderrs:
            try:
                self._carrier = Carrier(stderrs, stdouts if is_one_file(1, 2) else ())
            except OSError:  # no descriptor is left
                if pump is not None:
                    pump.drain(0)
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
        for each in self._both():
            each.start()

    def drain(self, *, hands_on: bool) -> None:
        """Carry what is still in the pipes, then close everything.

        Args:
            hands_on: Whether processes that workers left running hold pipes on purpose.
        """
        if self._carrier is not None:
            self._carrier.drain(hands_on=hands_on)
        if self._pump is not None:
            self._pump.drain(_DRAIN_S, hands_on=hands_on)

    def end_of(self, local_rank: int) -> LeftFile:
        """Return the end of what a worker printed on a standard error that has no log file."""
        from ..system.left_files import LeftFile  # noqa: PLC0415  failures only

        if self._carrier is None:
            return LeftFile()
        text, is_whole = self._carrier.end_of(local_rank)
        return LeftFile(text, is_whole)

    @property
    def has_files(self) -> bool:
        """Whether anything goes to log files."""
        return self._pump is not None

    @property
    def has_shown_all(self) -> bool:
        """Whether the console has taken all that it was to show."""
        return self._pump is None or self._pump.has_shown_all

    def _both(self) -> list[OutputPump | Carrier]:
        return [each for each in (self._pump, self._carrier) if each is not None]


def _pump_for(
    dest: LogsDest,
    nprocs: int,
    prefixes: dict[int, str] | None,
    name: str,
    filters: tuple[Sequence[str] | None, Sequence[str] | None],
) -> OutputPump | None:
    stdout_filters, stderr_filters = filters
    if not is_any_carried(
        dest, nprocs, filters_stdout=bool(stdout_filters), filters_stderr=bool(stderr_filters)
    ):
        return None
    from .pump import OutputPump  # noqa: PLC0415  many jobs have no log files

    return OutputPump(dest, nprocs, prefixes, name, stdout_filters, stderr_filters)
