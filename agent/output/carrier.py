"""Has standard error carried to the agent's own where that is no terminal, and its end kept.

Where standard error is a pipe, a file or a socket, as under SLURM, Kubernetes and CI, nobody misses
a terminal: each worker gets a pipe of its own, and what comes out is written on, byte for byte. The
last 64 KiB of each rank are kept: they tell why a program ended that leaves no record. Where
standard output is the same file, both streams of a worker go through its one pipe, so that their
order stays.

Nothing is read before the agent's loop finds that something was printed; then a thread (`carrying`)
begins to read all pipes and to write to the one place where all would have gone without it. If that
place takes nothing, the workers wait, as they would have; if its reader has gone, so have theirs.
"""

from __future__ import annotations

import fcntl
import os
import select

from ...rendezvous.logs import Log
from ..system.pidfd import close_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .carrying import Carrying

log = Log(__name__)


class Carrier:
    """The pipes of one attempt's workers.

    The writing ends stay open until ``drain``: so no worker's end wakes the loop.

    Args:
        stderr_of: The local ranks whose standard error it carries.
        stdout_of: Those whose standard output it carries as well, since it is the same file.
        target: The agent's standard error.
        begin: Called in the thread before it writes; it may block.
        on_end: Called in the thread when it ends.

    Raises:
        OSError: There can be no more descriptors.
    """

    def __init__(
        self,
        stderr_of: Iterable[int],
        stdout_of: Iterable[int] = (),
        *,
        target: int = 2,
        begin: Callable[[], object] = lambda: None,
        on_end: Callable[[], object] = lambda: None,
    ) -> None:
        self._begin = begin
        self._on_end = on_end
        self._pipes: dict[int, int] = {}
        self._stderrs: dict[int, int] = {}
        self._stdouts: dict[int, int] = {}
        self._carries_stdout = False
        self._silence: select.epoll | None = None
        self._carrying: Carrying | None = None
        self._target = -1
        try:
            self._target = fcntl.fcntl(target, fcntl.F_DUPFD_CLOEXEC, 3)
            self._silence = select.epoll()
            for local_rank in stderr_of:
                self._pipes[local_rank], self._stderrs[local_rank] = os.pipe2(os.O_CLOEXEC)
                os.set_blocking(self._pipes[local_rank], False)
                self._silence.register(self._pipes[local_rank], select.EPOLLIN)
            for local_rank in stdout_of:
                self._stdouts[local_rank] = os.dup(self._stderrs[local_rank])
                self._carries_stdout = True
        except OSError:
            self._close()
            raise

    def stdout_fd(self, local_rank: int) -> int | None:
        """Return what a worker's fd 1 must become, None where it is not carried."""
        return self._stdouts.get(local_rank)

    def stderr_fd(self, local_rank: int) -> int | None:
        """Return what a worker's fd 2 must become, None where it is not carried."""
        return self._stderrs.get(local_rank)

    @property
    def silent_fd(self) -> int:
        """Readable once ``carry_if_printed`` has something to do; -1: it never will."""
        return -1 if self._silence is None else self._silence.fileno()

    def carry_if_printed(self) -> None:
        """Begin to carry if a worker has printed something."""
        if self._silence is not None and self._silence.poll(0):
            self.carry()

    def carry(self) -> None:
        """Begin to carry, unless that has begun."""
        if self._silence is None:
            return
        self._silence.close()
        self._silence = None
        try:
            from .carrying import Carrying  # many workers are silent

            hooks = self._begin, self._on_end
            self._carrying = Carrying(self._pipes, self._stderrs, self._target, *hooks)
        except (OSError, ImportError) as error:  # no threads, or no descriptors: nor for a module
            if self._hand_on():
                self._close_reading_ends()
            else:  # the pipes stay open until `drain`: a worker that prints is not to die of it
                what = "standard error"
                if self._carries_stdout:
                    what = "standard output and standard error"
                log.warning("what workers print on %s is lost: %s", what, error)

    def _hand_on(self) -> bool:
        """Let other processes carry; return whether one does for each pipe."""
        try:
            from .hand_over import hand_on_to

            return not [fd for fd in self._pipes.values() if not hand_on_to(fd, self._target)]
        except (OSError, ImportError):
            return False

    def end_of(self, local_rank: int) -> tuple[bytes, bool]:
        """Return the end of what a worker has printed so far, and whether that is all of it."""
        self.carry_if_printed()
        if self._carrying is None or local_rank not in self._pipes:
            return b"", True
        return self._carrying.end_of(local_rank)

    def carried_output(self) -> dict[int, tuple[int, bytes]]:
        """Return how many bytes workers have printed, and the last of them, by local rank."""
        self.carry_if_printed()
        carrying = self._carrying
        return {
            rank: (0, b"") if carrying is None else carrying.printed_by(rank)
            for rank in self._pipes
        }

    def carried_bytes(self) -> dict[int, int]:
        """Return how much each worker has printed so far as it was read; any thread may ask."""
        outputs = {} if self._carrying is None else self._carrying.outputs
        return {rank: outputs[rank].printed_bytes if rank in outputs else 0 for rank in self._pipes}

    def kept_ends(self) -> dict[int, tuple[bytes, float | None, int]]:
        """Return the last of what was read of each worker, when, and how many bytes in all.

        Any thread may ask.
        """
        outputs = {} if self._carrying is None else self._carrying.outputs
        return {
            rank: (each.end, each.printed_at, each.printed_bytes) for rank, each in outputs.items()
        }

    def drain(self) -> None:
        """Have all carried that is still in the pipes, then everything closed; return at once.

        Called when all workers have ended. If another process holds a pipe open, which a worker has
        left running, ``cat`` goes on to carry for it.
        """
        if self._carrying is not None:
            self._carrying.forget_writing_ends()
        self._close_workers_ends()
        if self._silence is not None and self._have_all_ended():
            self._close()
        self.carry()
        if self._carrying is not None:
            self._carrying.stop()
        else:
            self._close_reading_ends()

    def give_up(self) -> None:
        """Wait no longer for a target that takes nothing."""
        if self._carrying is not None:
            self._carrying.give_up()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until all is carried after ``drain``; return whether it is.

        Args:
            timeout_s: How long; None: as long as it takes.
        """
        return self._carrying is None or self._carrying.join(timeout_s)

    def _have_all_ended(self) -> bool:
        """Return whether nothing was printed, and nobody is left who could."""
        pipes = select.poll()
        for fd in self._pipes.values():
            pipes.register(fd, select.POLLIN)
        return [event for _, event in pipes.poll(0)] == [select.POLLHUP] * len(self._pipes)

    def _close_workers_ends(self) -> None:
        close_all([*self._stderrs.values(), *self._stdouts.values()])
        self._stderrs.clear()
        self._stdouts.clear()

    def _close(self) -> None:
        self._close_workers_ends()
        if self._silence is not None:
            self._silence.close()
            self._silence = None
        self._close_reading_ends()

    def _close_reading_ends(self) -> None:
        close_all([*self._pipes.values(), *({self._target} - {-1})])
        self._pipes.clear()
        self._target = -1
