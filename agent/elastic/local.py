"""The agent whose workers are processes of its own node."""

from __future__ import annotations

import contextlib
import signal

from ...rendezvous.api.handler import RendezvousInfo, RoundHandler, Verdict, VerdictKind
from ...rendezvous.errors import RendezvousConnectionError, RendezvousError
from ...rendezvous.logs import Log
from ..failures.memory_events import KernelWatch
from ..output.log_relay import relayed_logs
from ..output.specs import LogsSpecs
from ..processes.guardian import Guardian
from ..processes.start import PContext
from ..system.signals import DEFAULT_SIGNALS, Preempted, SignalInbox
from ..workers.environment import SIGNALS_TO_HANDLE
from ..workers.worker import RunResult, WorkerGroup, WorkerSpec, WorkerState
from .agent import DEFAULT_ROLE, SimpleElasticAgent
from .companions import COMPANIONS
from .facts import AgentFacts, FolderOfRun, Supervision
from .group_processes import GroupProcesses, WorkerStart
from .hooks import call_shutdown
from .leaving import stops_heeded
from .observer import ObservingCompanion, measured
from .policy import Step, delay_of
from .readiness import Afterwards
from .waiting import LoopWait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    from ..failures.stack_places import Whereabouts
    from ..monitoring.health import HealthCheckServer
    from ..system.signals import Handler
    from .places import Record

    _T = TypeVar("_T")

log = Log(__name__)

_OWN_SIGNAL_S = 0.5


class LocalElasticAgent(SimpleElasticAgent):
    """Runs a worker group as local processes, and leaves none behind, unless all have succeeded.

    The loop sleeps until something happens: a worker ends, a signal comes, the round changes.

    Args:
        spec: What to run.
        logs_specs: Where the workers' output goes.
        start_method: How functions get into a new process: spawn, fork or forkserver.
        exit_barrier_timeout: Seconds that this node waits for the others at the end; by default
            what ``TORCH_ELASTIC_EXIT_BARRIER_TIMEOUT`` says, else 300.
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
        supervision: What is done for the workers beside starting and stopping them.
    """

    _companion_kinds = COMPANIONS
    """What stands beside the loop; a subclass may add companions of its own."""

    def __init__(
        self,
        spec: WorkerSpec,
        logs_specs: LogsSpecs,
        start_method: str = "spawn",
        exit_barrier_timeout: float | None = None,
        log_line_prefix_template: str | None = None,
        shutdown_timeout: float = 30,
        health_check_server: HealthCheckServer | None = None,
        uninterruptible_state_timeout: float | None = None,
        *,
        signals_to_handle: str = "",
        signal_handler_afterwards: Handler | None = None,
        environ: Mapping[str, str] | None = None,
        supervision: Supervision | None = None,
    ) -> None:
        super().__init__(spec, exit_barrier_timeout, shutdown_timeout, environ=environ)
        signals = signals_to_handle or self._environ.get(SIGNALS_TO_HANDLE) or DEFAULT_SIGNALS
        self._supervision = supervision = supervision or Supervision()
        answer = lambda: self.processes.tell_places()  # noqa: E731, PLW0108  it is made below
        self._loop = LoopWait(signals, self._rounds, signal_handler_afterwards, answer, supervision)
        self._loop.on_begin = self._restarts.say_for_later
        self._companions = self._loop.companions
        numa, prefix = spec.numa_options, log_line_prefix_template
        self._worker_start = WorkerStart(
            logs_specs, start_method, prefix, numa, self._environ, self._rounds, self._loop
        )
        self._kernel = KernelWatch(keeps_log=start_method != "fork")
        self._facts = AgentFacts(
            group=self._worker_group,
            environ=self._environ,
            rounds=self._rounds,
            loop=self._loop,
            start_method=start_method,
            shutdown_timeout_s=shutdown_timeout,
            supervision=supervision,
            kernel_wait_s=uninterruptible_state_timeout,
            progress=lambda: (self._round, self._restart_count),
            record_timer_event=self._log_watchdog_event,
            restarts=self._restarts,
            record_places=lambda why, found: self._events.places(why, found),  # noqa: PLW0108  it changes
            keep_places=lambda found, workers: _kept(found, workers, self._events.places),
        )
        self._health_check_server = health_check_server
        self.processes: GroupProcesses = GroupProcesses(
            self._worker_group, self._loop, self._kernel, lambda: self._events.places
        )
        self._guardian: Guardian | None = None
        self._info: RendezvousInfo | None = None
        self._is_fit = True

    @property
    def signals(self) -> SignalInbox:
        """The signals that end the job; held by ``run``, and by what must outlast it."""
        return self._loop.inbox

    @property
    def has_shown_all_output(self) -> bool:
        """Whether the console has taken all that it was to show; False while workers run."""
        return self._loop.has_shown_all

    @property
    def log_files_are_in_use(self) -> bool:
        """Whether what workers left running still prints into their log files."""
        return self._pcontext is not None and self._pcontext.is_written_to

    def run(self, role: str = DEFAULT_ROLE) -> RunResult:
        """Run the workers to their end; see ``SimpleElasticAgent.run``."""
        with contextlib.ExitStack() as ends:  # the last one first
            if self._health_check_server is not None:
                ends.callback(_stop, self._health_check_server)
            ends.enter_context(self.signals)
            ends.enter_context(relayed_logs())
            ends.callback(self._kernel.end)
            witnessed = self._supervision.signals_of_workers
            self._guardian = guardian = Guardian.start(witnessed=witnessed)
            ends.callback(setattr, self, "_guardian", None)
            ends.callback(guardian.release)
            ends.callback(self.folder.leave)
            ends.callback(self.processes.tidy)
            ends.callback(self._worker_start.folders.leave)
            ends.callback(self._companions.end)
            self._companions.begin(self._companion_kinds, self._facts, guardian)
            self._companions.add(Afterwards(self.processes.tidy))
            ends.callback(self._loop.await_readers, self._shutdown_timeout)
            ends.enter_context(self.processes.ended_if_elrun_changes())
            try:
                return super().run(role)
            except RendezvousError as error:
                if self.signals.is_preempted:  # meanwhile: the job is to run again
                    log.warning("the rendezvous had failed when the signal came: %s", error)
                    self._raise_if_stopped()
                raise

    @property
    def folder(self) -> FolderOfRun:
        """The folder of this agent's run."""
        return self._facts.folder

    @property
    def rounds(self) -> RoundHandler:
        """What this agent asks of its rendezvous."""
        return self._rounds

    @property
    def _pcontext(self) -> PContext | None:
        return self.processes.context

    def keep(self, record: ObservingCompanion) -> None:
        """Let a record be kept of what this agent does, if that turns out to be worth one."""
        self.folder.is_kept = True
        self.observe(record)
        self._companions.add(record)

    def _invoke_run(self, role: str = DEFAULT_ROLE) -> RunResult:
        with stops_heeded(self._rounds.get_run_id(), self.signals):
            result = super()._invoke_run(role)
        # Only now: as long as another node may fail, and all may start again, nothing may be left.
        if result.state is WorkerState.SUCCEEDED and self._pcontext is not None:
            self._pcontext.leave()
        return result

    @measured
    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        self._kernel.begin()
        self._companions.prepare(self._info, is_last=self._remaining_restarts == 0)
        workers = self._worker_start.start(worker_group, self._restart_count, self._guardian)
        self.processes.context = workers
        self._raise_if_stopped()  # before those that were not started are taken for failed ones
        self._companions.begin_attempt(workers)
        self.processes.tidy_if_many()
        return workers.pids()

    def _ask_workers_to_end(self, step: Step) -> None:
        verdict = None
        with contextlib.suppress(RendezvousConnectionError):
            verdict = self._rounds.verdict()
            self.processes.ask_for_places(verdict)
        kind, mine = type(self), LocalElasticAgent
        if (kind._stop_workers, kind._shutdown) == (mine._stop_workers, mine._shutdown):  # noqa: SLF001  a subclass's own
            are_apart = self._worker_start.folders.are_apart
            self.processes.ask_to_end(is_replaced=step is not Step.FAIL and are_apart)
        if step is not Step.FAIL and self._companions.preload_server is not None:
            self._companions.preload_server.hurry()
        is_next_certain = self._rounds.answers_at_once and not self._supervision.health_check
        if step is Step.RESTART and is_next_certain and self._pcontext and not delay_of(verdict):
            self._worker_start.folders.begin(self._pcontext.envs)

    @measured
    def _stop_workers(self, worker_group: WorkerGroup) -> None:
        call_shutdown(self._shutdown, signal.SIGTERM, self._stop_timeout_s)

    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, timeout: float = 30) -> None:
        stopped_by, main_first = self._stopped_by, self._supervision.signal_to == "main"
        if isinstance(stopped_by, Preempted):
            stopped_by.group_rank = self._worker_group.group_rank
            stopped_by.has_all_left = self._is_spare
            if self._pcontext is not None:
                self._let_workers_leave(stopped_by, self._pcontext, timeout)
        elif self._pcontext is not None:
            main_first = main_first and stopped_by is not None
            self.processes.stop(self._pcontext, death_sig, timeout, main_first=main_first)

    def _let_workers_leave(self, preempted: Preempted, workers: PContext, timeout_s: float) -> None:
        if self._guardian is None:  # a subclass runs the workers without
            workers.close(preempted.sigval, timeout_s, urgency=self.signals.urgency)
            return
        times = timeout_s, self._supervision.grace_s
        leaving = self.processes.let_leave(
            workers,
            preempted,
            self._guardian,
            times,
            self._environ,
            to_group=self._supervision.signal_to == "group",
        )
        if (self._worker_group.group_world_size or 1) > 1:
            leaving.stay(self._rounds, self._ask)

    @measured
    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        if self._pcontext is None:
            return RunResult(WorkerState.UNKNOWN)
        result = self.processes.look(self._pcontext)
        trouble = self._companions.take_failures()
        if result is not None:
            return result
        if trouble is None:
            return RunResult(WorkerState.HEALTHY)
        self._is_fit = self._is_fit and not trouble.is_node_unfit
        failures = self.processes.by_global_rank(trouble.failures)
        return RunResult(WorkerState.UNHEALTHY, failures=failures)

    @property
    def _is_spare(self) -> bool:
        rounds = self._rounds
        has_no_spare = rounds.answers_at_once or rounds.has_to_be_asked
        is_waiting = self._worker_group.group_rank is None and not has_no_spare
        return is_waiting and rounds.wait_limit_s() is None

    @property
    def _usable_restarts(self) -> int:
        return super()._usable_restarts if self._is_fit else 0

    @property
    def _is_needed_by_others(self) -> bool:
        return super()._is_needed_by_others or self._companions.is_needed_by_others

    @property
    def _watch_interval(self) -> float | None:
        mine = type(self)._monitor_workers  # noqa: SLF001  its own, as its class has it
        is_own = mine is not LocalElasticAgent._monitor_workers
        if is_own or self._rounds.has_to_be_asked:
            return self._worker_group.spec.monitor_interval
        return None

    def _wait_for_change(self, timeout_s: float | None) -> None:
        loss = self._companions.take_loss()
        if not loss:
            self._loop.wait(self._pcontext.filenos() if self._pcontext else [], timeout_s)
            loss = self._companions.take_loss()
        if loss:
            verdict = Verdict(VerdictKind.WORKER_FAILED, by=self._group_rank, reason=loss)
            self._ask(lambda: self._rounds.conclude(verdict))

    def _next_round(self) -> RendezvousInfo:
        self.processes.forget()
        self._companions.end_attempt()
        self._supervision.require_fit_node(self._environ, self._loop.wait_for_start, self._guardian)
        self._info = self._loop.meet(self._facts)
        return self._info

    def _ask(self, question: Callable[[], _T], timeout_s: float | None = None) -> _T:
        """Ask in a thread: a store whose host has frozen must not make this agent deaf."""
        return self._loop.ask(question, timeout_s)

    def _report_failure(self, result: RunResult) -> Verdict:
        # A scheduler signals the workers, too: one that ends by that is no fault of the job's.
        told = self._supervision.may_have_told_to_end
        if any(told(each.exitcode) for each in result.failures.values()):
            self._loop.await_verdict(_OWN_SIGNAL_S)
        failures = self.processes.with_causes(result.failures, self._rounds)
        return super()._report_failure(RunResult(result.state, failures=dict(failures)))

    def _raise_if_stopped(self) -> None:
        self.signals.raise_if_any()

    def _describe_failure(self, result: RunResult) -> Verdict:
        failed = self.processes.failed = self.processes.examine(result.failures)
        if failed is not None:  # what is recorded of the attempt's end says as much
            self._last_look = RunResult(result.state, failures=failed.described())
        if failed is None or failed.root is None:
            return super()._describe_failure(result)
        return failed.verdict(self._group_rank)

    def _conclude_failed_run(self, result: RunResult, verdict: Verdict | None) -> RunResult:
        failed = self.processes.examine_end(result.failures, verdict, self._group_rank)
        if failed is None:
            return super()._conclude_failed_run(result, verdict)
        return failed.result(self._rounds, self._restart_count, self._failed_at, self._ask)


def _kept(found: Mapping[int, Whereabouts], workers: PContext, record: Record) -> str:
    from .places import kept  # hangs only

    return kept("hang", found, workers, record)


def _stop(server: HealthCheckServer) -> None:
    try:
        server.stop()
    except Exception as error:  # noqa: BLE001  the caller's; how the job ended matters more
        log.warning("the health check server can't be stopped: %r", error)
