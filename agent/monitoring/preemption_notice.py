"""Shows workers that ask whether the job is preempted; see ``agent/workers/preemption.py``."""

from __future__ import annotations

import mmap
import os
import struct

from ..processes.companion import Companion
from ..workers.preemption import HEADER, VARIABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from signal import Signals

    from ..processes.context import PContext

_MOST_PIDS = 1 << 22  # see proc(5), pid_max


class PreemptionNotice(Companion):
    """Shares memory with the workers of all attempts; what nobody writes to takes none.

    Args:
        signals: Those that are the workers': they must not end a worker that asks.

    Raises:
        OSError: There is no memory to share.
    """

    def __init__(self, signals: Sequence[Signals]) -> None:
        self._numbers = ",".join(str(int(number)) for number in signals)
        self._fd = os.memfd_create("elrun-preemption", os.MFD_CLOEXEC)
        self._size = HEADER + _MOST_PIDS
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:  # `ulimit -f`
            self._size = HEADER
            os.ftruncate(self._fd, self._size)
        self._cell = mmap.mmap(self._fd, self._size)
        self._pids: Collection[int] = ()

    def environment(self) -> dict[str, str]:
        """Say to workers where to look, and which signals to survive."""
        return {VARIABLE: f"{self._numbers} /proc/{os.getpid()}/fd/{self._fd}"}

    def begin_attempt(self, workers: PContext) -> None:
        """Take note which processes are workers."""
        self._pids = workers.pids().values()

    def end_attempt(self) -> None:
        """Forget the workers: their process ids may become those of others."""
        for pid in self.survivors_of_sigterm():
            self._cell[HEADER + pid] = 0
        self._pids = ()

    def survivors_of_sigterm(self) -> set[int]:
        """Return the process ids of workers that SIGTERM would not end, only since they ask."""
        places = ((pid, HEADER + pid) for pid in self._pids)
        return {pid for pid, place in places if place < self._size and self._cell[place]}

    def tell(self, ends_at: float) -> None:
        """Let workers see that they are to leave.

        Args:
            ends_at: Until when they have time, by ``time.monotonic()``.
        """
        self._cell[8:HEADER] = struct.pack("d", ends_at)
        self._cell[0] = 1

    def end(self) -> None:
        """Give the memory back; workers that have found it keep it."""
        self._cell.close()
        os.close(self._fd)
