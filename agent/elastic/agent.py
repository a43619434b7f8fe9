"""The agent's loop, as a template: keep a worker group running through rounds.

``SimpleElasticAgent`` decides when workers are started, stopped and started again. A subclass
defines what a worker is, by four methods: ``_start_workers``, ``_stop_workers``,
``_monitor_workers`` and ``_shutdown``. A subclass that is notified of changes also overrides
``_wait_for_change``; otherwise the loop looks every ``monitor_interval`` seconds.
"""

from __future__ import annotations

import contextlib
import signal
import time

from ...rendezvous.api.handler import (
    NodeProfile,
    Verdict,
)
from ...rendezvous.api.parameters import truth_of
from ...rendezvous.errors import (
    RendezvousConnectionError,
    RendezvousError,
    RendezvousGracefulExitError,
)
from ...rendezvous.logs import Log, place_in_run
from ..system.environ import exit_barrier_timeout_of, inherited_environment
from ..system.signals import SignalException
from ..workers.ranks import RankSpan, _RoleInstanceInfo, agree_on_span, identical_span
from ..workers.worker import RunResult, Worker, WorkerGroup, WorkerSpec, WorkerState
from .hooks import AgentHooks, call_shutdown
from .leaving import Farewell, abort_of, await_verdict, close_run
from .observer import measured, publishing_metrics
from .policy import GIVE_UP, Step, next_step
from .recorded import DEFAULT_ROLE, ElasticAgent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

log = Log(__name__)

__all__ = ["DEFAULT_ROLE", "ElasticAgent", "SimpleElasticAgent"]

_LEAST_ANSWER_S = 10.0


class SimpleElasticAgent(AgentHooks):
    """The loop for one worker group of one role.

    Args:
        spec: What to run.
        exit_barrier_timeout: Seconds that a node whose workers have succeeded waits for the others;
            by default what ``TORCH_ELASTIC_EXIT_BARRIER_TIMEOUT`` says, else 300.
        shutdown_timeout: Seconds that workers have between a signal and SIGKILL.
        environ: The agent's environment; by default that of this process.

    Raises:
        ValueError: The variable is no number of seconds.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        exit_barrier_timeout: float | None = None,
        shutdown_timeout: float = 30,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(spec)
        self._store: Any = None
        self._shutdown_timeout = shutdown_timeout
        self._failed_at = 0.0
        self._stopped_by: SignalException | None = None
        self._round: int | None = None
        self._stop_timeout_s = shutdown_timeout
        self._environ = inherited_environment() if environ is None else environ
        if exit_barrier_timeout is None:
            exit_barrier_timeout = exit_barrier_timeout_of(self._environ)
        self._exit_barrier_timeout = exit_barrier_timeout

    @publishing_metrics
    @measured
    def run(self, role: str = DEFAULT_ROLE) -> RunResult:
        """Run the workers to their end, through all restarts.

        Args:
            role: Accepted for torchrun's sake; the spec names the role.

        Raises:
            SignalException: A signal stopped the agent.
            RendezvousError: The nodes could not meet, or the store was lost.
        """
        started_at, death_sig = time.monotonic(), signal.SIGTERM
        farewell: Farewell | None = None
        try:
            result = self._invoke_run(role)
            self._total_execution_time = int(time.monotonic() - started_at)
            self._record_metrics(result)
            self._record_worker_events(result)
            self._last_look = None
            return result
        except RendezvousGracefulExitError as error:
            log.info("this node was not needed: %s", error)
            return RunResult(WorkerState.SUCCEEDED)
        except BaseException as error:
            self._restarts.say_what_was_to_follow()
            farewell = Farewell(self._rounds, self._worker_group.group_rank, error)
            if isinstance(error, SignalException):
                death_sig, self._stopped_by = error.sigval, error
            raise
        finally:
            call_shutdown(self._shutdown, death_sig, self._shutdown_timeout)
            if farewell is not None:
                farewell.finish()
            self._total_execution_time = int(time.monotonic() - started_at)
            self._record_attempt_end()  # if an exception ended the run in the midst of one

    def _invoke_run(self, role: str = DEFAULT_ROLE) -> RunResult:
        group, waited = self._worker_group, False
        self._initialize_workers(group)
        result = self._look_at(group)
        while True:  # look before each wait: a change may have come before the wait began
            result, verdict = self._hear_verdict(group, result)
            step = next_step(result.state, verdict, self._usable_restarts, waited=waited)
            if step is Step.REPORT_FAILURE:
                verdict = self._report_failure(result)
                step = next_step(result.state, verdict, self._usable_restarts)
            waited = step is Step.WAIT_FOR_OTHERS
            self._end_round(verdict, step)
            match step:
                case Step.WATCH:
                    self._wait_for_change(self._watch_interval)
                case Step.WAIT_FOR_OTHERS:
                    self._exit_barrier()
                case Step.FINISH:
                    return result
                case Step.RESTART | Step.REJOIN:
                    self._say_what_follows(step, verdict)
                    self._record_attempt_end()
                    self._remaining_restarts -= step is Step.RESTART
                    self._restart_workers(group)
                case Step.FAIL:
                    self._restarts.announce(step, verdict, self._restart_count)
                    self._failed_at = time.monotonic()
                    self._stop_workers(group)
                    group.state = WorkerState.FAILED
                    failed = self._conclude_failed_run(result, verdict)
                    close_run(self._rounds, self._ask)
                    return failed
                case Step.LEAVE:
                    raise abort_of(self._rounds.get_run_id(), verdict)
                case _:
                    raise RuntimeError(
                        f"[{group.spec.role}] the workers are in state {result.state.value}: "
                        "the agent can't tell what they do, so it stops them"
                    )
            if not waited:  # workers that have succeeded may be gone: they are not looked at again
                result = self._look_at(group)

    def _hear_verdict(
        self, group: WorkerGroup, result: RunResult
    ) -> tuple[RunResult, Verdict | None]:
        """Return how the workers stand, and the round's verdict if there is one.

        Raises:
            RendezvousConnectionError: The store was lost while the workers run.
        """
        try:
            return result, self._rounds.verdict()
        except RendezvousConnectionError:
            # What has succeeded stays so, whatever becomes of the store.
            if result.state is not WorkerState.SUCCEEDED:
                result = self._look_at(group)
            if result.state is not WorkerState.SUCCEEDED:
                raise
            return result, None

    def _look_at(self, group: WorkerGroup) -> RunResult:
        result = self._monitor_workers(group)
        group.state = result.state
        self._last_look = result
        self._put_role_metric("remaining_restarts", self._remaining_restarts)
        self._put_role_metric(result.state.value.lower(), 1)
        if result.state is WorkerState.HEALTHY:
            self._rounds.look_for_waiting_nodes()
        return result

    def _report_failure(self, result: RunResult) -> Verdict:
        """Report to the other nodes that a worker failed here; return the round's verdict."""
        failure = self._describe_failure(result)
        failure = self._restarts.with_decision(failure, self._restart_count)
        is_last = self._usable_restarts == 0 or GIVE_UP in failure.details

        def report() -> Verdict:
            if is_last:
                with contextlib.suppress(RendezvousError):  # concluding will show what is wrong
                    self._rounds.await_signs_of_life()
            return self._rounds.conclude(failure)

        return self._ask(report)

    @measured
    def _initialize_workers(self, worker_group: WorkerGroup) -> None:
        """Meet the other nodes and start a fresh set of workers."""
        self._rendezvous(worker_group)
        ids = self._start_workers(worker_group)
        self._restarts.say_for_later()
        for worker in worker_group.workers:
            worker.id = ids.get(worker.local_rank)
        self._restarts.begin_attempt()
        self._events.workers_started()
        worker_group.state = WorkerState.HEALTHY

    @measured
    def _restart_workers(self, worker_group: WorkerGroup) -> None:
        """Stop the workers, meet again, start new ones."""
        self._stop_timeout_s = self._restarts.stop_timeout_s(self._shutdown_timeout)
        self._stop_workers(worker_group)
        self._stop_timeout_s = self._shutdown_timeout
        worker_group.state = WorkerState.STOPPED
        # Where a scheduler stops all nodes, a node may hear of the others' stops before its own
        # signal. By now that signal has come: no line announces a round that will never begin.
        self._raise_if_stopped()
        self._restarts.say_what_was_kept_back()
        self._pause(self._restarts.take_delay_s())
        self._initialize_workers(worker_group)

    @measured
    def _rendezvous(self, worker_group: WorkerGroup) -> None:
        """Meet the other nodes; give the group its ranks and its store."""
        spec = worker_group.spec
        worker_group.group_rank = None  # until there is a new one, this node has none
        place_in_run.note(self._rounds.get_run_id(), None)
        self._rounds.describe(NodeProfile(spec.local_world_size, spec.role, spec.max_restarts))
        with self._events.meeting():
            info = self._next_round()
            worker_group.group_rank = info.rank
            worker_group.group_world_size = info.world_size
            worker_group.meet_at(info.store, info.bootstrap_store_info)
        place_in_run.note(self._rounds.get_run_id(), info.rank)
        place, self._store = info.placement, info.store
        self._round = None if place is None else place.round
        if place is None:
            with self.record_duration("ASSIGN_WORKER_RANKS"):
                worker_group.workers = self._assign_worker_ranks(
                    info.store, info.rank, info.world_size, spec
                )
        else:
            worker_group.workers = RankSpan.of(place).workers(spec.local_world_size)
            self._remaining_restarts = self._restarts.left(place.restart_count)
        self._events.joined(info)
        log.info(
            "[%s] round %s: group rank %d of %d, ranks %s of %d, restart %d of %d",
            spec.role,
            "?" if place is None else place.round,
            info.rank,
            info.world_size,
            [worker.global_rank for worker in worker_group.workers],
            worker_group.workers[0].world_size,
            self._restart_count,
            spec.max_restarts,
        )

    @measured
    def _assign_worker_ranks(
        self, store: Any, group_rank: int, group_world_size: int, spec: WorkerSpec
    ) -> list[Worker]:
        """Agree on ranks, where the rendezvous has not settled them.

        Args:
            store: What the round's agents share; see ``agree_on_span``.
        """
        size = spec.local_world_size
        if truth_of(self._environ.get("TORCH_ELASTIC_WORKER_IDENTICAL", "")):
            span = identical_span(group_rank, group_world_size, size)
        else:
            mine = _RoleInstanceInfo(spec.role, group_rank, size)
            span = agree_on_span(store, mine, group_world_size)
        return span.workers(size)

    @measured
    def _exit_barrier(self) -> None:
        """Wait until every node's workers have succeeded, or the round ends otherwise.

        The wait takes ``exit_barrier_timeout`` at most. Then this node leaves with its own success,
        and also where the store is lost, so that the other nodes' state can't be known.
        """
        try:
            timeout_s = self._exit_barrier_timeout
            deadline = time.monotonic() + timeout_s
            self._ask(self._rounds.arrive, max(_LEAST_ANSWER_S, timeout_s))
            await_verdict(
                self._rounds,
                deadline,
                timeout_s,
                self._wait_for_change,
                lambda: self._is_needed_by_others,
            )
        except RendezvousError as error:
            log.warning(
                "the workers of this node have all succeeded; how those of the other nodes fare "
                "can't be known: %s",
                error,
            )
