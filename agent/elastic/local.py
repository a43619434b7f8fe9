"""The agent whose workers are processes of its own node."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ...rendezvous.api.handler import RendezvousInfo, Verdict, VerdictKind
from ...rendezvous.api.parameters import truth_of
from ...rendezvous.errors import RendezvousConnectionError, UsageError
from ...rendezvous.threads import Call
from ..failures.failure import shell_exit_code
from ..failures.memory_events import MemoryEvents
from ..older_steps import call_shutdown
from ..output.folders import make_folders
from ..output.log_relay import relayed_logs
from ..output.specs import DefaultLogsSpecs, LogsSpecs
from ..processes.executor import StartWait
from ..processes.guardian import Guardian
from ..processes.start import PContext, start_processes
from ..system.environ import inherited_environment
from ..system.pidfd import wait_briefly
from ..system.signals import DEFAULT_SIGNALS, SignalInbox
from ..system.wakeup import Wakeup
from ..workers.environment import (
    ENABLE_FILE_TIMER,
    HEALTH_CHECK_PORT,
    SIGNALS_TO_HANDLE,
    UNINTERRUPTIBLE_STATE_TIMEOUT,
    shared_environment,
    worker_environment,
)
from ..workers.worker import RunResult, WorkerGroup, WorkerSpec, WorkerState
from ..workers_store.host import StoreHost
from .agent import DEFAULT_ROLE, SimpleElasticAgent
from .metric_recording import measured

if TYPE_CHECKING:
    from ..failures.report import RootCause
    from ..hardware.numa import CpuBinding
    from ..monitoring.health import AgentHealth, HealthCheckServer
    from ..monitoring.kernel_waits import KernelWaits
    from ..monitoring.watchdog import Watchdog
    from ..preload.preload import Preloading
    from ..processes.executor import Executor
    from ..system.signals import Handler

log = logging.getLogger(__name__)

_OWN_SIGNAL_S = 0.5
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_LOCAL_RANK_MACRO = "${local_rank}"

_T = TypeVar("_T")


class LocalElasticAgent(SimpleElasticAgent):
    """Runs a worker group as local processes, and leaves none behind, unless all have succeeded.

    The loop sleeps until something happens: a worker ends, a signal comes, the round changes.

    Args:
        spec: What to run.
        logs_specs: Where the workers' output goes.
        start_method: How functions get into a new process: spawn, fork or forkserver.
        exit_barrier_timeout: Seconds that this node waits for the others at the end.
        log_line_prefix_template: What stands before each line under ``--tee``; ``${role_name}``,
            ``${local_rank}``, ``${rank}``, ``${hostname}`` and ``${restart_count}`` are filled in.
        shutdown_timeout: Seconds that workers have between a signal and SIGKILL.
        health_check_server: A server of the caller's, started already; it is stopped at the end.
        uninterruptible_state_timeout: Seconds for which the kernel may hold a worker; by default
            what ``TORCHELASTIC_UNINTERRUPTIBLE_STATE_TIMEOUT`` says. 0: for ever.
        signals_to_handle: Names of the signals that end the job; by default what
            ``TORCHELASTIC_SIGNALS_TO_HANDLE`` says, else SIGTERM, SIGINT, SIGHUP and SIGQUIT.
        signal_handler_afterwards: What handles these signals once the agent no longer does; by
            default what handled them before.
        environ: The agent's environment; by default that of this process.
        preload: Modules that a process imports beforehand, from which workers are forked.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        logs_specs: LogsSpecs,
        start_method: str = "spawn",
        exit_barrier_timeout: float = 300,
        log_line_prefix_template: str | None = None,
        shutdown_timeout: float = 30,
        health_check_server: HealthCheckServer | None = None,
        uninterruptible_state_timeout: float | None = None,
        *,
        signals_to_handle: str = "",
        signal_handler_afterwards: Handler | None = None,
        environ: Mapping[str, str] | None = None,
        preload: Sequence[str] = (),
    ) -> None:
        super().__init__(spec, exit_barrier_timeout, shutdown_timeout, environ=environ)
        self._logs_specs = logs_specs
        self._start_method = start_method
        self._log_line_prefix_template = log_line_prefix_template
        self._hostname = os.uname().nodename
        self._wake = Wakeup()
        wanted = signals_to_handle or self._environ.get(SIGNALS_TO_HANDLE) or DEFAULT_SIGNALS
        self._inbox = SignalInbox(wanted, self._wake, handler_afterwards=signal_handler_afterwards)
        self._guardian: Guardian | None = None
        self._modules = tuple(preload)
        self._preloading: Preloading | None = None
        self._store_host = StoreHost(self._environ, spec.master_port)
        self._pcontext: PContext | None = None
        self._memory_events = MemoryEvents(0.0)
        self._had_shown_all_output = True
        self._binding = _binding_of(spec)
        self._health: AgentHealth | None = None
        self._watchdog: Watchdog | None = None
        self._health_check_server = health_check_server
        self._kernel_waits = self._begin_watching_kernel_waits(uninterruptible_state_timeout)
        self._is_fit = True
        self._start_wait = StartWait(self._is_start_unwanted, self._look_and_wait)
        self._rounds.subscribe(self._wake.notify)

    @property
    def signals(self) -> SignalInbox:
        """The signals that end the job; held by ``run``, and by what must outlast it."""
        return self._inbox

    @property
    def has_shown_all_output(self) -> bool:
        """Whether the console has taken all that it was to show; False while workers run."""
        now = self._pcontext is None or self._pcontext.has_shown_all_output
        return now and self._had_shown_all_output

    @property
    def log_files_are_in_use(self) -> bool:
        """Whether what workers left running still prints into their log files."""
        return self._pcontext is not None and self._pcontext.is_written_to

    def run(self, role: str = DEFAULT_ROLE) -> RunResult:
        """Run the workers to their end; see ``SimpleElasticAgent.run``."""
        try:
            with self._inbox, relayed_logs():
                return self._run_with_helpers(role)
        finally:
            if self._health_check_server is not None:
                _stop(self._health_check_server)

    def _run_with_helpers(self, role: str) -> RunResult:
        self._guardian = Guardian.start()
        try:
            self._health = self._begin_health()
            self._watchdog = self._begin_watchdog()
            if self._modules:
                self._preloading = self._begin_preloading(self._guardian)
            return super().run(role)
        finally:
            self._store_host.end()
            if self._health is not None:
                self._health.stop()
            if self._watchdog is not None:
                self._watchdog.stop()
            if self._preloading is not None:
                self._preloading.close()
                self._preloading = None
            self._guardian.release()
            self._guardian = None

    def _invoke_run(self, role: str = DEFAULT_ROLE) -> RunResult:
        result = super()._invoke_run(role)
        # Only now: as long as another node may fail, and all may start again, nothing may be left.
        if result.state is WorkerState.SUCCEEDED and self._pcontext is not None:
            self._pcontext.leave()
        return result

    @measured
    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        self._memory_events = MemoryEvents.now()
        try:
            self._pcontext = self._start_processes(worker_group)
        except ValueError as error:  # an argument, a GPU or a folder that can't be had
            raise UsageError(str(error)) from error
        self._inbox.raise_if_any()  # before those that were not started are taken for failed ones
        if self._watchdog is not None:
            self._watchdog.watch(self._pcontext)
        pids = self._pcontext.pids()
        self._store_host.watch_workers(pids.values(), are_last=self._remaining_restarts == 0)
        return pids

    def _start_processes(self, worker_group: WorkerGroup) -> PContext:
        spec = worker_group.spec
        envs = {
            worker.local_rank: worker_environment(
                worker,
                worker_group,
                restart_count=self._restart_count,
                run_id=self._rounds.get_run_id(),
                use_agent_store=self._rounds.use_agent_store,
                inherited=self._environ,
            )
            | self._timer_environment()
            for worker in worker_group.workers
        }
        return start_processes(
            name=spec.role,
            entrypoint=spec.entrypoint or "",
            args={w.local_rank: _fill_in(spec.args, w.local_rank) for w in worker_group.workers},
            envs=envs,
            logs_specs=self._make_folders(envs),
            log_line_prefixes=self._log_line_prefixes(worker_group),
            start_method=self._start_method,
            duplicate_stdout_filters=spec.duplicate_stdout_filters,
            duplicate_stderr_filters=spec.duplicate_stderr_filters,
            guardian=self._guardian,
            executor=self._preloaded_executor(),
            binding=self._binding,
            start_wait=self._start_wait,
        )

    def _make_folders(self, envs: dict[int, dict[str, str]]) -> LogsSpecs:
        specs = self._logs_specs
        made = make_folders(specs, envs, self._wake, lambda timeout_s: self._wait((), timeout_s))
        if self._guardian is not None and isinstance(specs, DefaultLogsSpecs):
            self._guardian.watch_folder(specs.temporary_dir)
        return made

    def _begin_health(self) -> AgentHealth | None:
        said = self._environ.get(HEALTH_CHECK_PORT)
        if not said:
            return None
        from ..monitoring.health import describe, start_health  # noqa: PLC0415  few jobs

        return start_health(
            said,
            self._shutdown_timeout,
            self._wake.notify,
            lambda: describe(
                self._worker_group,
                run_id=self._rounds.get_run_id(),
                round_number=self._round,
                restarts=self._restart_count,
            ),
        )

    def _begin_watchdog(self) -> Watchdog | None:
        if not truth_of(self._environ.get(ENABLE_FILE_TIMER, "")):
            return None
        from ..monitoring.watchdog import begin_watchdog  # noqa: PLC0415  few jobs

        watchdog = begin_watchdog(
            self._environ, self._rounds.get_run_id(), self._log_watchdog_event
        )
        if watchdog is not None and self._guardian is not None:
            self._guardian.watch_folder(watchdog.own_dir)
        return watchdog

    def _begin_watching_kernel_waits(self, timeout_s: float | None) -> KernelWaits | None:
        said = self._environ.get(UNINTERRUPTIBLE_STATE_TIMEOUT) if timeout_s is None else timeout_s
        if not said:
            return None
        from ..monitoring.kernel_waits import watch_kernel_waits  # noqa: PLC0415  few jobs

        return watch_kernel_waits({UNINTERRUPTIBLE_STATE_TIMEOUT: str(said)})

    def _timer_environment(self) -> dict[str, str]:
        return self._watchdog.environment(self._environ) if self._watchdog else {}

    def _begin_preloading(self, guardian: Guardian) -> Preloading | None:
        from ..preload.preload import begin_preloading  # noqa: PLC0415  few jobs

        spec = self._worker_group.spec
        if spec.entrypoint is None:
            return None
        environment = {
            **inherited_environment(),
            **shared_environment(spec.local_world_size, self._environ),
            **self._timer_environment(),
        }
        return begin_preloading(
            self._modules,
            spec.entrypoint,
            _fill_in(spec.args, 0),
            self._start_method,
            environment,
            guardian,
            self._start_wait,
        )

    def _preloaded_executor(self) -> Executor | None:
        if self._preloading is None:
            return None
        from ..preload.preload import PreloadedExecutor  # noqa: PLC0415  few jobs

        while not self._preloading.is_settled():
            self._wait_for_change(self._preloading.patience_left_s())
        self._store_host.fork_early(is_last=self._remaining_restarts == 0)
        return PreloadedExecutor(self._preloading)

    @measured
    def _stop_workers(self, worker_group: WorkerGroup) -> None:  # noqa: ARG002  the one group
        call_shutdown(self._shutdown, signal.SIGTERM, self._shutdown_timeout)

    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, timeout: float = 30) -> None:
        if self._pcontext is not None:
            self._pcontext.close(death_sig, timeout, urgent_fd=self._inbox.urgent_fd)

    @measured
    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        if self._pcontext is None:
            return RunResult(WorkerState.UNKNOWN)
        ended = self._pcontext.look()
        if ended is None:
            return self._look_for_kernel_waits(worker_group)
        rank_of = {worker.local_rank: worker.global_rank for worker in worker_group.workers}
        if ended.is_failed():
            return RunResult(
                WorkerState.FAILED,
                failures={rank_of[local]: each for local, each in ended.failures.items()},
            )
        return RunResult(
            WorkerState.SUCCEEDED,
            return_values={rank_of[local]: each for local, each in ended.return_values.items()},
        )

    def _look_for_kernel_waits(self, worker_group: WorkerGroup) -> RunResult:
        """Return how workers stand of which none has ended."""
        if self._kernel_waits is None or self._pcontext is None:
            return RunResult(WorkerState.HEALTHY)
        held = self._kernel_waits.look(self._pcontext.running_pids(), time.monotonic())
        if not held:
            return RunResult(WorkerState.HEALTHY)
        self._is_fit = False  # what is stuck holds a device that new workers would need
        rank_of = {worker.local_rank: worker.global_rank for worker in worker_group.workers}
        failures = {rank_of[local]: failure for local, failure in held.items()}
        return RunResult(WorkerState.UNHEALTHY, failures=failures)

    @property
    def _usable_restarts(self) -> int:
        return super()._usable_restarts if self._is_fit else 0

    @property
    def _is_needed_by_others(self) -> bool:
        return super()._is_needed_by_others or self._store_host.is_serving

    @property
    def _watch_interval(self) -> float | None:
        own_monitor = type(self)._monitor_workers is not LocalElasticAgent._monitor_workers  # noqa: SLF001
        if own_monitor or self._rounds.has_to_be_asked:
            return self._worker_group.spec.monitor_interval
        return None if self._kernel_waits is None else self._kernel_waits.look_interval_s

    def _wait_for_change(self, timeout_s: float | None) -> None:
        workers = self._pcontext.filenos() if self._pcontext else []
        preloading = self._preloading.filenos() if self._preloading else []
        store = self._store_host.filenos()
        self._wait([*workers, *preloading, *store], self._store_host.patience_s(timeout_s))
        loss = self._store_host.look()
        if loss:
            verdict = Verdict(VerdictKind.WORKER_FAILED, by=self._group_rank, reason=loss)
            self._ask(lambda: self._rounds.conclude(verdict))

    def _wait(self, fds: Sequence[int], timeout_s: float | None) -> None:
        self._look_and_wait(fds, timeout_s)
        self._inbox.raise_if_any()

    def _look_and_wait(self, fds: Sequence[int], timeout_s: float | None) -> None:
        # A descriptor below 0 belongs to a worker that somebody else reaped.
        wait_briefly([self._wake.fileno(), *(fd for fd in fds if fd >= 0)], timeout_s)
        self._wake.clear()
        if self._health is not None:
            self._health.echo()

    def _is_start_unwanted(self) -> bool:
        """Return whether workers that are being started would be stopped again at once."""
        try:
            return self._inbox.has_any() or self._rounds.verdict() is not None
        except RendezvousConnectionError:  # the loop asks again, and stops them
            return True

    def _next_round(self) -> RendezvousInfo:
        self._store_host.prepare_round()
        info = self._meet()
        self._store_host.begin(self._rounds, info, self._guardian, self._preloading)
        return info

    def _meet(self) -> RendezvousInfo:
        """Meet the others in a thread, so that a signal can end the wait for them."""
        self._had_shown_all_output = self.has_shown_all_output
        self._pcontext = None
        if self._watchdog is not None:
            self._watchdog.watch(None)
        if self._rounds.answers_at_once:
            self._inbox.raise_if_any()
            return self._rounds.next_rendezvous()
        from .wait_notices import LongWait  # noqa: PLC0415  not the plain job of one node

        call = Call(
            self._rounds.next_rendezvous, "elrun-rendezvous", self._wake.notify, or_here=False
        )
        wait = LongWait(self._rounds.get_run_id(), self._rounds.describe_wait, self._wake.notify)
        while not call.is_done:
            self._wait((), wait.turn())
        return call.result()

    def _ask(self, question: Callable[[], _T], timeout_s: float | None = None) -> _T:
        """Ask in a thread: a store whose host has frozen must not make this agent deaf.

        Args:
            question: What is asked.
            timeout_s: How long the answer may take; by default as long as the rendezvous allows
                (``--rdzv-conf store_patience``).

        Raises:
            RendezvousConnectionError: It takes longer.
        """
        if self._rounds.answers_at_once:
            return question()
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        call = Call(question, "elrun-rendezvous", self._wake.notify, or_here=True)
        while not call.is_done:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise RendezvousConnectionError(
                    f"the rendezvous store has not answered for {timeout_s:g} s"
                )
            self._wait((), None if math.isinf(left_s) else left_s)
        return call.result()

    def _report_failure(self, result: RunResult) -> Verdict:
        # A scheduler signals the workers, too: one that ends by that is no fault of the job's.
        if any(_is_told_to_end(failure.exitcode) for failure in result.failures.values()):
            deadline = time.monotonic() + _OWN_SIGNAL_S
            while (left_s := deadline - time.monotonic()) > 0 and self._rounds.verdict() is None:
                self._wait((), left_s)
        return super()._report_failure(result)

    def _raise_if_stopped(self) -> None:
        self._inbox.raise_if_any()

    def _describe_failure(self, result: RunResult) -> Verdict:
        root = self._local_root_cause(result)
        if root is None:
            return super()._describe_failure(result)
        return Verdict(
            VerdictKind.WORKER_FAILED,
            by=self._group_rank,
            reason=root.reason,
            details=root.to_json(),
        )

    def _conclude_failed_run(self, result: RunResult, verdict: Verdict | None) -> RunResult:
        from ..failures.report import RootCause  # noqa: PLC0415  most jobs succeed
        from .job_report import conclude_report  # noqa: PLC0415

        root, result = None, self._with_late_failures(result)
        if verdict is not None and verdict.details:
            with contextlib.suppress(ValueError):  # another agent's: ours has to do then
                root = RootCause.from_json(dict(verdict.details))
        if root is None or (verdict is not None and verdict.by == self._group_rank):
            # Now that its output has been carried to the end, the log says all it can.
            root = self._local_root_cause(result) or root
        if root is None or self._pcontext is None:
            return super()._conclude_failed_run(result, verdict)
        return conclude_report(
            self._rounds,
            self._worker_group,
            self._pcontext,
            root,
            node=self._hostname,
            failures=result.failures,
            restarts=self._restart_count,
            failed_at=self._failed_at,
            ask=self._ask,
        )

    def _with_late_failures(self, result: RunResult) -> RunResult:
        """Return the result with those failures, too, that came while the group was stopped."""
        ended = None if self._pcontext is None else self._pcontext.look()
        if ended is None:
            return result
        rank_of = {each.local_rank: each.global_rank for each in self._worker_group.workers}
        late = {rank_of[local]: failure for local, failure in ended.failures.items()}
        return RunResult(result.state, failures={**result.failures, **late, **result.failures})

    def _local_root_cause(self, result: RunResult) -> RootCause | None:
        if not result.failures or self._pcontext is None:
            return None
        from .job_report import root_cause_of  # noqa: PLC0415  most jobs succeed

        return root_cause_of(result.failures, self._pcontext, self._hostname, self._memory_events)

    def _log_line_prefixes(self, group: WorkerGroup) -> dict[int, str] | None:
        if not self._log_line_prefix_template:
            return None
        from string import Template  # noqa: PLC0415  few jobs have a template

        template = Template(self._log_line_prefix_template)
        return {
            worker.local_rank: template.safe_substitute(
                role_name=group.spec.role,
                local_rank=worker.local_rank,
                rank=worker.global_rank,
                hostname=self._hostname,
                restart_count=self._restart_count,
            )
            for worker in group.workers
        }


def _stop(server: HealthCheckServer) -> None:
    try:
        server.stop()
    except Exception as error:  # noqa: BLE001  the caller's; how the job ended matters more
        log.warning("the health check server can't be stopped: %r", error)


def _is_told_to_end(exitcode: int) -> bool:
    """Return whether a worker ended as programs do that are told to end by a signal."""
    return shell_exit_code(exitcode) - 128 in _ENDING_SIGNALS


def _binding_of(spec: WorkerSpec) -> CpuBinding | None:
    if spec.numa_options is None:
        return None
    from ..hardware.numa import CpuBinding  # noqa: PLC0415  few jobs

    return CpuBinding(spec.numa_options)


def _fill_in(args: tuple[Any, ...], local_rank: int) -> tuple[Any, ...]:
    return tuple(
        arg.replace(_LOCAL_RANK_MACRO, str(local_rank)) if isinstance(arg, str) else arg
        for arg in args
    )
