"""The agent whose workers are processes of its own node."""

from __future__ import annotations

import contextlib
import signal

from ...rendezvous.api.handler import RendezvousInfo, RoundHandler, Verdict, VerdictKind
from ...rendezvous.errors import InstallationChangedError, RendezvousConnectionError
from ...rendezvous.logs import Log
from ..failures.failure import is_told_to_end
from ..failures.memory_events import KernelWatch
from ..older_steps import call_shutdown
from ..output.log_relay import relayed_logs
from ..output.specs import LogsSpecs
from ..processes.guardian import Guardian
from ..processes.start import PContext
from ..system.signals import DEFAULT_SIGNALS, Preempted, SignalInbox, parse_signals
from ..workers.environment import SIGNALS_TO_HANDLE
from ..workers.worker import RunResult, WorkerGroup, WorkerSpec, WorkerState
from .agent import DEFAULT_ROLE, SimpleElasticAgent
from .companions import COMPANIONS, AgentFacts
from .leaving import stops_heeded
from .observer import LateObserver, measured
from .starting import WorkerStart
from .waiting import LoopWait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeVar

    from ..failures.stack_places import Whereabouts
    from ..monitoring.health import HealthCheckServer
    from ..output.run_folders import RunFolder
    from ..system.signals import Handler
    from .failed_attempt import FailedAttempt
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
        forward_signals: Names of signals that all nodes' workers get when this process gets them.
        preempt_signal: Name of the signal at which all nodes' workers leave, and the job ends.
        grace: Seconds that the agent has from that signal on; None: ``shutdown_timeout``, or what
            SLURM says.
        hang_timeout: Seconds without a sign of life of any rank that are a hang; None: for ever.
        hang_log_pattern: A regular expression; only lines of output that it is found in count.
        timeout: Seconds after which the job ends, from now on; None: it has no limit.
        health_check: A command that must succeed before each attempt; None: there is none.
        health_check_timeout: How long that may take, in seconds.
    """

    _companion_kinds = COMPANIONS
    """What stands beside the loop; a subclass may add companions of its own."""

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
        forward_signals: str = "",
        preempt_signal: str = "",
        grace: float | None = None,
        hang_timeout: float | None = None,
        hang_log_pattern: str | None = None,
        timeout: float | None = None,
        health_check: str | None = None,
        health_check_timeout: float = 30,
    ) -> None:
        super().__init__(spec, exit_barrier_timeout, shutdown_timeout, environ=environ)
        signals = signals_to_handle or self._environ.get(SIGNALS_TO_HANDLE) or DEFAULT_SIGNALS
        forwarded = parse_signals(forward_signals)
        self._preempting = next(iter(parse_signals(preempt_signal)), None)
        self._grace_s = grace
        self._loop = LoopWait(
            signals,
            self._rounds,
            signal_handler_afterwards,
            self._tell_places,
            forwarded,
            timeout,
            self._preempting,
        )
        self._companions = self._loop.companions
        self._worker_start = WorkerStart(
            logs_specs,
            start_method,
            log_line_prefix_template,
            spec.numa_options,
            self._environ,
            self._rounds,
            self._loop,
        )
        self._kernel = KernelWatch()
        self._facts = AgentFacts(
            group=self._worker_group,
            environ=self._environ,
            rounds=self._rounds,
            wake=self._loop.wakeup.notify,
            start_wait=self._loop.start_wait,
            start_method=start_method,
            shutdown_timeout_s=shutdown_timeout,
            preloads=tuple(preload),
            kernel_wait_s=uninterruptible_state_timeout,
            progress=lambda: (self._round, self._restart_count),
            record_timer_event=self._log_watchdog_event,
            forward_signals=forwarded,
            take_signals=self._loop.inbox.take_passed_on,
            hang_timeout_s=hang_timeout,
            hang_log_pattern=hang_log_pattern,
            kernel=self._kernel,
            inbox=self._loop.inbox,
            last_decision=lambda: self._restarts.last_decision,
            record_places=lambda why, found: self._events.places(why, found),  # noqa: PLW0108  it changes
            keep_places=lambda found, workers: _kept(found, workers, self._events.places),
        )
        self._health_check_server = health_check_server
        self._health_check = health_check, health_check_timeout
        self._guardian: Guardian | None = None
        self._info: RendezvousInfo | None = None
        self._pcontext: PContext | None = None
        self._failed: FailedAttempt | None = None
        self._places: dict[int, str] = {}
        self._is_fit = True
        self._keeps_folder = False

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
            preempting = () if self._preempting is None else (self._preempting,)
            witnessed = (*self._facts.forward_signals, *preempting)
            guardian = self._guardian = Guardian.start(witnessed=witnessed)
            ends.callback(setattr, self, "_guardian", None)
            ends.callback(guardian.release)
            ends.callback(self._leave_folder)
            ends.callback(self._companions.end)
            self._companions.begin(self._companion_kinds, self._facts, guardian)
            ends.callback(self._loop.await_readers, self._shutdown_timeout)
            try:
                return super().run(role)
            except (ImportError, SyntaxError) as error:
                if not InstallationChangedError.is_behind(error):
                    raise
                context = self._pcontext
                exitcode = None if context is None else context.kill_at_once()
                raise InstallationChangedError(error, exitcode) from error

    def run_folder(self) -> RunFolder | None:
        """Return the folder of this agent's run, see ``RunFolder``; None: the user wants none.

        Whoever asks for it keeps something there, and lets go of it after the run.
        """
        self._keeps_folder = True
        return self._facts.run_folder()

    @property
    def rounds(self) -> RoundHandler:
        """What this agent asks of its rendezvous."""
        return self._rounds

    def printed_bytes(self) -> dict[int, int]:
        """Return how much workers have printed that elrun carries, by global rank.

        Any thread may ask.
        """
        context, workers = self._pcontext, self._worker_group.workers
        carried = {} if context is None else context.carried_bytes()
        return {
            each.global_rank: carried[each.local_rank]
            for each in list(workers)
            if each.local_rank in carried
        }

    def keep(self, record: LateObserver) -> None:
        """Let a record be kept of what this agent does, if that turns out to be worth one."""
        self._keeps_folder = True
        self.observe(record)
        self._companions.add(record)

    def discard_run_folder(self) -> None:
        """Remove the folder of the run, if there is one: nothing that is in it is to be kept."""
        self._facts.discard_run_folder()

    def _leave_folder(self) -> None:
        if not self._keeps_folder:
            self.discard_run_folder()

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
        self._pcontext = self._worker_start.start(worker_group, self._restart_count, self._guardian)
        self._raise_if_stopped()  # before those that were not started are taken for failed ones
        self._companions.begin_attempt(self._pcontext)
        return self._pcontext.pids()

    def _ask_workers_to_end(self) -> None:
        self._ask_for_places()
        kind = type(self)
        stops_as_usual = (
            kind._stop_workers is LocalElasticAgent._stop_workers  # noqa: SLF001
            and kind._shutdown is LocalElasticAgent._shutdown  # noqa: SLF001
        )
        if self._pcontext is not None and stops_as_usual:
            with contextlib.suppress(OSError):  # there are no descriptors: they are stopped later
                self._pcontext.ask_to_end()

    def _ask_for_places(self) -> None:
        """Ask running workers where they are, if the failure only tells of a lost peer."""
        self._places = {}
        with contextlib.suppress(RendezvousConnectionError):
            verdict = self._rounds.verdict()
            if self._pcontext and verdict and verdict.details.get("is_consequence"):
                from .places import places_of  # noqa: PLC0415  few failures

                self._places = places_of(self._worker_group, self._pcontext)

    @measured
    def _stop_workers(self, worker_group: WorkerGroup) -> None:  # noqa: ARG002  the one group
        call_shutdown(self._shutdown, signal.SIGTERM, self._stop_timeout_s)

    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, timeout: float = 30) -> None:
        if self._pcontext is not None and isinstance(self._stopped_by, Preempted):
            self._let_workers_leave(self._stopped_by, self._pcontext, timeout)
        elif self._pcontext is not None:
            rank_of = {each.local_rank: each.global_rank for each in self._worker_group.workers}
            running = {rank_of[at]: pid for at, pid in self._pcontext.running_pids().items()}
            record = self._events.places
            answering = self._loop.answering_aside(self._places_teller)
            with answering, self._loop.stop_notices(running, timeout, record):
                self._pcontext.close(death_sig, timeout, urgent_fd=self.signals.urgent_fd)

    def _let_workers_leave(self, preempted: Preempted, workers: PContext, timeout_s: float) -> None:
        from .deadlines import Deadline  # noqa: PLC0415  few jobs
        from .preemption import Leaving  # noqa: PLC0415

        if self._guardian is None:  # a subclass runs the workers without
            workers.close(preempted.sigval, timeout_s, urgent_fd=self.signals.urgent_fd)
            return
        self.signals.begin_preemption(preempted.sigval)
        deadline = Deadline(preempted.sigval, timeout_s, self._grace_s, self._environ)
        leaving = Leaving(preempted, self._worker_group, workers, self._guardian, deadline)
        with self._loop.answering_aside(self._places_teller):
            leaving.end_workers(self.signals.urgent_fd)
        if (self._worker_group.group_world_size or 1) > 1:
            is_first = self._worker_group.group_rank == 0
            leaving.stay(self._rounds, self._ask, is_needed=is_first or self._is_needed_by_others)

    @measured
    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        if self._pcontext is None:
            return RunResult(WorkerState.UNKNOWN)
        rank_of = {worker.local_rank: worker.global_rank for worker in worker_group.workers}
        ended = self._pcontext.look(stops_others=True)
        trouble = self._companions.take_failures()
        if ended is None:
            if trouble is None:
                return RunResult(WorkerState.HEALTHY)
            self._is_fit = self._is_fit and not trouble.is_node_unfit
            state, failures = WorkerState.UNHEALTHY, trouble.failures
        elif ended.is_failed():
            state, failures = WorkerState.FAILED, ended.failures
        else:
            values = {rank_of[local]: each for local, each in ended.return_values.items()}
            return RunResult(WorkerState.SUCCEEDED, return_values=values)
        return RunResult(state, failures={rank_of[at]: each for at, each in failures.items()})

    @property
    def _usable_restarts(self) -> int:
        return super()._usable_restarts if self._is_fit else 0

    @property
    def _is_needed_by_others(self) -> bool:
        return super()._is_needed_by_others or self._companions.is_needed_by_others

    @property
    def _watch_interval(self) -> float | None:
        own_monitor = type(self)._monitor_workers is not LocalElasticAgent._monitor_workers  # noqa: SLF001
        if own_monitor or self._rounds.has_to_be_asked:
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

    def _tell_places(self) -> None:
        with self._companions.asking():
            self._places_teller()()

    def _places_teller(self) -> Callable[[], None]:
        """Return what says where the workers are that run now, in any thread."""
        group, workers, record = self._worker_group, self._pcontext, self._events.places
        running = {} if workers is None else workers.running()
        ends = {} if workers is None else dict(workers.exits)

        def tell() -> None:
            from .places import tell_places  # noqa: PLC0415  on request only

            tell_places(group, workers, running, ends, record)

        return tell

    def _next_round(self) -> RendezvousInfo:
        self._pcontext = self._failed = None
        self._companions.end_attempt()
        command, timeout_s = self._health_check
        if command:
            from ..monitoring.node_check import NodeCheck  # noqa: PLC0415  few jobs

            check = NodeCheck(command, timeout_s, self._environ, self._loop.wait)
            check.require_fit_node(self._guardian)
        self._info = self._loop.meet()
        return self._info

    def _ask(self, question: Callable[[], _T], timeout_s: float | None = None) -> _T:
        """Ask in a thread: a store whose host has frozen must not make this agent deaf."""
        return self._loop.ask(question, timeout_s)

    def _report_failure(self, result: RunResult) -> Verdict:
        # A scheduler signals the workers, too: one that ends by that is no fault of the job's.
        if any(self._may_be_told_to_end(each.exitcode) for each in result.failures.values()):
            self._loop.await_verdict(_OWN_SIGNAL_S)
        if self._pcontext is not None:
            from .failed_attempt import failures_with_cause  # noqa: PLC0415  most jobs succeed

            group, wait = self._worker_group, self._loop.wait
            failures = failures_with_cause(
                group, self._pcontext, result.failures, self._rounds, wait
            )
            result = RunResult(result.state, failures=failures)
        return super()._report_failure(result)

    def _may_be_told_to_end(self, exitcode: int) -> bool:
        return is_told_to_end(exitcode) or exitcode + (self._preempting or 0) == 0

    def _raise_if_stopped(self) -> None:
        self.signals.raise_if_any()

    def _describe_failure(self, result: RunResult) -> Verdict:
        failed = self._failed = self._examine(result)
        if failed is not None:  # what is recorded of the attempt's end says as much
            self._last_look = RunResult(result.state, failures=failed.described())
        if failed is None or failed.root is None:
            return super()._describe_failure(result)
        return failed.verdict(self._group_rank)

    def _conclude_failed_run(self, result: RunResult, verdict: Verdict | None) -> RunResult:
        failed = self._failed or self._examine(result)  # another node may have seen one first
        if failed is None:
            return super()._conclude_failed_run(result, verdict)
        failed = failed.stopped(verdict, self._group_rank, self._places)
        return failed.result(self._rounds, self._restart_count, self._failed_at, self._ask)

    def _examine(self, result: RunResult) -> FailedAttempt | None:
        if self._pcontext is None:
            return None
        from .failed_attempt import FailedAttempt  # noqa: PLC0415  most jobs succeed

        group, context = self._worker_group, self._pcontext
        return FailedAttempt.of(group, context, self._kernel, result.failures)


def _kept(found: Mapping[int, Whereabouts], workers: PContext, record: Record) -> str:
    from .places import kept  # noqa: PLC0415  hangs only

    return kept("hang", found, workers, record)


def _stop(server: HealthCheckServer) -> None:
    try:
        server.stop()
    except Exception as error:  # noqa: BLE001  the caller's; how the job ended matters more
        log.warning("the health check server can't be stopped: %r", error)
