"""The processes of an agent's worker group: watched, asked where they are, ended and examined."""

from __future__ import annotations

import contextlib

from ...rendezvous.errors import InstallationChangedError
from ..system.signals import Preempted
from ..workers.worker import RunResult, WorkerState

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeVar

    from ...rendezvous.api.handler import RoundHandler, Verdict
    from ..failures.failure import ProcessFailure
    from ..failures.memory_events import KernelWatch
    from ..processes.guardian import Guardian
    from ..processes.start import PContext
    from ..workers.worker import WorkerGroup
    from .failed_attempt import FailedAttempt
    from .places import Record
    from .preemption import Leaving
    from .waiting import LoopWait

    _V = TypeVar("_V")


class GroupProcesses:
    """What the agent knows of the processes of its worker group.

    Args:
        group: The workers.
        loop: Waits meanwhile.
        kernel: Tells what the kernel did to them.
        record: Returns what records where workers are.

    Attributes:
        context: The processes of this attempt; None: there are none yet.
        failed: This attempt's failure, once it was examined.
    """

    def __init__(
        self,
        group: WorkerGroup,
        loop: LoopWait,
        kernel: KernelWatch,
        record: Callable[[], Record],
    ) -> None:
        self._group = group
        self._loop = loop
        self._kernel = kernel
        self._record = record
        self.context: PContext | None = None
        self.failed: FailedAttempt | None = None
        self._places: dict[int, str] = {}

    def forget(self) -> None:
        """Let go of the attempt before."""
        self.context = self.failed = None

    @contextlib.contextmanager
    def ended_if_elrun_changes(self) -> Iterator[None]:
        """Kill the workers if elrun's own files were changed under it, so that it can't go on.

        Raises:
            InstallationChangedError: They were; it knows the exit code of a worker that has failed.
        """
        try:
            yield
        except (ImportError, SyntaxError) as error:
            if not InstallationChangedError.is_behind(error):
                raise
            exitcode = None if self.context is None else self.context.kill_at_once()
            raise InstallationChangedError(error, exitcode) from error

    def printed_bytes(self) -> dict[int, int]:
        """Return how much workers have printed that elrun carries, by global rank.

        Any thread may ask.
        """
        context, workers = self.context, self._group.workers
        carried = {} if context is None else context.carried_bytes()
        return {
            each.global_rank: carried[each.local_rank]
            for each in list(workers)
            if each.local_rank in carried
        }

    def by_global_rank(self, values: Mapping[int, _V]) -> dict[int, _V]:
        """Return values by global rank instead of the rank on this node."""
        rank_of = {worker.local_rank: worker.global_rank for worker in self._group.workers}
        return {rank_of[local]: value for local, value in values.items()}

    def look(self, workers: PContext) -> RunResult | None:
        """Return how the workers have ended; None: they run."""
        ended = workers.look(stops_others=True)
        if ended is None:
            return None
        if ended.is_failed():
            failures = self.by_global_rank(ended.failures)
            return RunResult(WorkerState.FAILED, failures=failures)
        values = self.by_global_rank(ended.return_values)
        return RunResult(WorkerState.SUCCEEDED, return_values=values)

    def ask_to_end(self) -> None:
        """Ask the workers to end, and wait for nothing."""
        if self.context is not None:
            with contextlib.suppress(OSError):  # there are no descriptors: they are stopped later
                self.context.ask_to_end()

    def ask_for_places(self, verdict: Verdict | None) -> None:
        """Ask running workers where they are, if the failure only tells of a lost peer."""
        self._places = {}
        if self.context and verdict and verdict.details.get("is_consequence"):
            from .places import places_of  # noqa: PLC0415  few failures

            self._places = places_of(self._group, self.context)

    def places_teller(self) -> Callable[[], None]:
        """Return what says where the workers are that run now, in any thread."""
        group, workers, record = self._group, self.context, self._record()
        running = {} if workers is None else workers.running()
        ends = {} if workers is None else dict(workers.exits)

        def tell() -> None:
            from .places import tell_places  # noqa: PLC0415  on request only

            tell_places(group, workers, running, ends, record)

        return tell

    def tell_places(self) -> None:
        """Say where the workers are that run now."""
        with self._loop.companions.asking():
            self.places_teller()()

    def stop(self, workers: PContext, death_sig: signal.Signals, timeout_s: float) -> None:
        """End the workers, and say what they do meanwhile.

        Args:
            workers: The processes.
            death_sig: What asks them to end.
            timeout_s: Seconds that they have until SIGKILL.
        """
        running = self.by_global_rank(workers.running_pids())
        answering = self._loop.answering_aside(self.places_teller)
        with answering, self._loop.stop_notices(running, timeout_s, self._record()):
            workers.close(death_sig, timeout_s, urgent_fd=self._loop.inbox.urgent_fd)

    def let_leave(
        self,
        workers: PContext,
        preempted: Preempted,
        guardian: Guardian,
        times: tuple[float, float | None],
        environ: Mapping[str, str],
    ) -> Leaving:
        """Let the workers leave by a deadline, and end what is left.

        Args:
            workers: The processes.
            preempted: Why they leave.
            guardian: The agent's guardian.
            times: The shutdown time-out in seconds, and the grace, if one is given.
            environ: The agent's environment, which may say when the scheduler ends the job.
        """
        from .deadlines import Deadline  # noqa: PLC0415  few jobs
        from .preemption import Leaving  # noqa: PLC0415

        deadline = Deadline(preempted.sigval, *times, environ)
        self._loop.inbox.begin_preemption(preempted.sigval)
        leaving = Leaving(preempted, self._group, workers, guardian, deadline)
        with self._loop.answering_aside(self.places_teller):
            leaving.end_workers(self._loop.inbox.urgent_fd)
        return leaving

    def with_causes(
        self, failures: Mapping[int, ProcessFailure], rounds: RoundHandler
    ) -> Mapping[int, ProcessFailure]:
        """Return failures once one of them may be the cause, and not all tell of a lost peer."""
        if self.context is None:
            return failures
        from .failed_attempt import failures_with_cause  # noqa: PLC0415  most jobs succeed

        return failures_with_cause(self._group, self.context, failures, rounds, self._loop.wait)

    def examine(self, failures: Mapping[int, ProcessFailure]) -> FailedAttempt | None:
        """Return what is known of the attempt's failure; None: it had no processes."""
        if self.context is None:
            return None
        from .failed_attempt import FailedAttempt  # noqa: PLC0415  most jobs succeed

        return FailedAttempt.of(self._group, self.context, self._kernel, failures)

    def examine_end(
        self, failures: Mapping[int, ProcessFailure], verdict: Verdict | None, group_rank: int
    ) -> FailedAttempt | None:
        """Return what is known of it, now that the workers have been stopped."""
        failed = self.failed or self.examine(failures)  # another node may have seen one first
        return None if failed is None else failed.stopped(verdict, group_rank, self._places)
