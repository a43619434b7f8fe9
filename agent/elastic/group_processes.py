"""The processes of a worker group: started, watched, asked where they are, ended and examined."""

from __future__ import annotations

import contextlib
import os
import signal

from ...rendezvous.api.handler import RoundHandler
from ...rendezvous.errors import InstallationChangedError, UsageError
from ..output.folders import AttemptFolders
from ..output.specs import DefaultLogsSpecs, LogsSpecs
from ..processes.start import PContext, start_processes
from ..system.signals import Preempted
from ..workers.environment import worker_environment
from ..workers.worker import RunResult, WorkerGroup, WorkerState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeVar

    from ...rendezvous.api.handler import Verdict
    from ..failures.failure import ProcessFailure
    from ..failures.memory_events import KernelWatch
    from ..hardware.numa import CpuBinding, NumaOptions
    from ..processes.executor import Executor
    from ..processes.guardian import Guardian
    from .failed_attempt import FailedAttempt
    from .places import Record
    from .post_mortem import Finding
    from .preemption import Leaving
    from .waiting import LoopWait

    _V = TypeVar("_V")


_MOST_REPLACED = 8


class WorkerStart:
    """Starts worker groups of one kind.

    Args:
        logs_specs: Where the workers' output goes.
        start_method: How functions get into a new process.
        prefix_template: What stands before each line under ``--tee``; None: the usual.
        numa_options: How workers are bound to CPUs; None: they are not.
        loop: Waits meanwhile.
    """

    def __init__(
        self,
        logs_specs: LogsSpecs,
        start_method: str,
        prefix_template: str | None,
        numa_options: NumaOptions | None,
        environ: Mapping[str, str],
        rounds: RoundHandler,
        loop: LoopWait,
    ) -> None:
        self._logs_specs = logs_specs
        self._start_method = start_method
        self._prefix_template = prefix_template
        self._environ = environ
        self._rounds = rounds
        self._loop = loop
        self.folders = AttemptFolders(logs_specs, loop.wakeup)
        self._binding = None if numa_options is None else _binding_by(numa_options)

    def start(self, group: WorkerGroup, restart_count: int, guardian: Guardian | None) -> PContext:
        """Start the processes of an attempt, once the companions are ready for it.

        Args:
            group: The workers, with their ranks.
            restart_count: Restarts that the job has spent.
            guardian: The agent's guardian; None: the processes get one of their own.

        Raises:
            UsageError: An argument can't be given to a process, or a GPU or a folder can't be had.
            SignalException: A signal has come that ends the job.
        """
        spec = group.spec
        added = self._loop.companions.environment()
        try:
            envs = {
                worker.local_rank: worker_environment(
                    worker,
                    group,
                    restart_count=restart_count,
                    run_id=self._rounds.get_run_id(),
                    use_agent_store=self._rounds.use_agent_store,
                    inherited=self._environ,
                )
                | added
                for worker in group.workers
            }
            folders = self._make_folders(envs, guardian)
            # What the companions do while folders are made may change how workers are started.
            return start_processes(
                name=spec.role,
                entrypoint=spec.entrypoint or "",
                args={rank: spec.args_of(rank) for rank in envs},
                envs=envs,
                logs_specs=folders,
                log_line_prefixes=self._prefixes(group, restart_count),
                start_method=self._start_method,
                duplicate_stdout_filters=spec.duplicate_stdout_filters,
                duplicate_stderr_filters=spec.duplicate_stderr_filters,
                guardian=guardian,
                executor=self._executor(),
                binding=self._binding,
                start_wait=self._loop.start_wait,
                job_output=self._loop.output,
            )
        except UsageError:
            raise
        except ValueError as error:
            raise UsageError(str(error)) from error

    def _executor(self) -> Executor | None:
        """Return what starts the workers, once the preload server is ready, if there is one."""
        server = self._loop.companions.preload_server
        if server is None:
            return None
        server.hold_start(lambda timeout_s: self._loop.wait_for_start((), timeout_s))
        return server.executor()

    def _make_folders(
        self, envs: dict[int, dict[str, str]], guardian: Guardian | None
    ) -> LogsSpecs:
        specs = self._logs_specs
        if guardian is not None and isinstance(specs, DefaultLogsSpecs):
            guardian.watch_folder(specs.temporary_dir)
            specs.hear_of_temporary_dir = guardian.watch_folder
        return self.folders.make(envs, lambda timeout_s: self._loop.wait_for_start((), timeout_s))

    def _prefixes(self, group: WorkerGroup, restart_count: int) -> dict[int, str] | None:
        if not self._prefix_template:
            return None
        from ..output.prefixes import prefix_of  # few jobs have a template

        return {
            worker.local_rank: prefix_of(
                self._prefix_template,
                role_name=group.spec.role,
                local_rank=worker.local_rank,
                rank=worker.global_rank,
                hostname=os.uname().nodename,
                restart_count=restart_count,
            )
            for worker in group.workers
        }


def _binding_by(options: NumaOptions) -> CpuBinding:
    from ..hardware.numa import CpuBinding  # few jobs

    return CpuBinding(options)


class GroupProcesses:
    """What the agent knows of the processes of its worker group.

    Args:
        loop: Waits meanwhile.
        kernel: Tells what the kernel did to them.

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
        self._replaced: list[PContext] = []
        self._findings: Mapping[int, Finding] | None = None
        self._places: dict[int, str] = {}

    def forget(self) -> None:
        """Let go of the attempt before; ``tidy`` is to be called when the next one has begun."""
        if self.context is not None:
            self._replaced.append(self.context)
        self.context = self.failed = self._findings = None

    def tidy(self) -> None:
        """Remove files that nobody needs, of workers that have been ended and replaced."""
        replaced, self._replaced = self._replaced, []
        for each in (*replaced, self.context):
            if each is not None:
                each.tidy()

    def tidy_if_many(self) -> None:
        """Do that where one attempt after the other lives for less than a moment."""
        if len(self._replaced) > _MOST_REPLACED:
            self.tidy()

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

    def end_reader(self) -> Callable[[], dict[int, tuple[bytes, int, int | None]]]:
        """Return what reads the kept ends of this attempt's output, by global rank.

        Of each: the end, how many bytes were printed in all, and the process id.

        It may be called later, too, and in any thread.
        """
        context = self.context
        rank_of = {each.local_rank: each.global_rank for each in self._group.workers}

        def read() -> dict[int, tuple[bytes, int, int | None]]:
            if context is None:
                return {}
            ends, pids = context.kept_ends(), context.pids()
            return {
                rank_of[at]: (end, printed, pids.get(at)) for at, (end, _, printed) in ends.items()
            }

        return read

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

    def ask_to_end(self, *, is_replaced: bool) -> None:
        """Ask the workers to end, and wait for nothing.

        Args:
            is_replaced: Whether another attempt follows; ``tidy`` is called once that has begun.
        """
        if self.context is not None:
            self._ask_to_end(self.context, is_replaced=is_replaced)

    def _ask_to_end(self, workers: PContext, *, is_replaced: bool = False) -> None:
        """Ask them by SIGTERM; it has to be SIGKILL for those that survive that since they ask."""
        with contextlib.suppress(OSError):  # there are no descriptors: they are stopped later
            workers.ask_to_end(is_replaced=is_replaced)
        notice = self._loop.companions.preemption_notice
        if notice is not None:
            workers.kill_workers(notice.survivors_of_sigterm())

    def ask_for_places(self, verdict: Verdict | None) -> None:
        """Ask running workers where they are, if the failure only tells of a lost peer."""
        self._places = {}
        if self.context and verdict and verdict.details.get("is_consequence"):
            from .places import places_of  # few failures

            self._places = places_of(self._group, self.context)

    def places_teller(self) -> Callable[[], None]:
        """Return what says where the workers are that run now, in any thread."""
        group, workers, record = self._group, self.context, self._record()
        running = {} if workers is None else workers.running()
        ends = {} if workers is None else dict(workers.exits)

        def tell() -> None:
            from .places import tell_places  # on request only

            tell_places(group, workers, running, ends, record)

        return tell

    def tell_places(self) -> None:
        """Say where the workers are that run now."""
        with self._loop.companions.asking():
            self.places_teller()()

    def stop(
        self,
        workers: PContext,
        death_sig: signal.Signals,
        timeout_s: float,
        *,
        main_first: bool = False,
    ) -> None:
        """End the workers, and say what they do meanwhile.

        Args:
            workers: The processes.
            death_sig: What asks them to end.
            timeout_s: Seconds that they have until SIGKILL.
            main_first: Whether what they have started is asked only when they have ended.
        """
        running = self.by_global_rank(workers.running_pids())
        answering = self._loop.answering_aside(self.places_teller)
        with answering, self._loop.stop_notices(running, timeout_s, self._record()):
            if self._loop.companions.preemption_notice and death_sig == signal.SIGTERM:
                self._ask_to_end(workers)
            alone, urgency = death_sig if main_first else None, self._loop.inbox.urgency
            workers.close(death_sig, timeout_s, urgency=urgency, alone=alone)

    def let_leave(
        self,
        workers: PContext,
        preempted: Preempted,
        guardian: Guardian,
        times: tuple[float, float | None],
        environ: Mapping[str, str],
        *,
        to_group: bool,
    ) -> Leaving:
        """Let the workers leave by a deadline, and end what is left.

        Args:
            preempted: Why they leave.
            times: The shutdown time-out in seconds, and the grace, if one is given.
            environ: The agent's environment, which may say when the scheduler ends the job.
            to_group: Whether what workers have started gets the signal with them.
        """
        from .deadlines import Deadline  # few jobs
        from .preemption import Leaving

        deadline = Deadline(preempted.sigval, *times, environ)
        self._loop.inbox.begin_preemption(preempted.sigval)
        notice = self._loop.companions.preemption_notice
        leaving = Leaving(
            preempted, self._group, workers, guardian, deadline, notice, to_group=to_group
        )
        with self._loop.answering_aside(self.places_teller):
            leaving.end_workers(self._loop.inbox.urgency)
        return leaving

    def with_causes(
        self, failures: Mapping[int, ProcessFailure], rounds: RoundHandler
    ) -> Mapping[int, ProcessFailure]:
        """Return failures once one of them may be the cause, and not all tell of a lost peer."""
        if self.context is None:
            return failures
        from .failed_attempt import findings_with_cause  # most jobs succeed

        found = findings_with_cause(self._group, self.context, failures, rounds, self._loop.wait)
        self._findings = found
        return {rank: each.failure for rank, each in found.items()}

    def examine(self, failures: Mapping[int, ProcessFailure]) -> FailedAttempt | None:
        """Return what is known of the attempt's failure; None: it had no processes."""
        if self.context is None:
            return None
        from .failed_attempt import FailedAttempt  # most jobs succeed
        from .post_mortem import findings_about

        findings, self._findings = self._findings, None
        if findings is None or any(findings.get(rank) is None for rank in failures):
            findings = findings_about(failures, self.context)
        return FailedAttempt.of(self._group, self.context, self._kernel, findings)

    def examine_end(
        self, failures: Mapping[int, ProcessFailure], verdict: Verdict | None, group_rank: int
    ) -> FailedAttempt | None:
        """Return what is known of it, now that the workers have been stopped."""
        failed = self.failed or self.examine(failures)  # another node may have seen one first
        return None if failed is None else failed.stopped(verdict, group_rank, self._places)
