"""What an agent records of its work: torchrun's events and metrics, as steps of the template."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ...rendezvous.api.handler import RendezvousHandler, RoundHandler
from ..metric_handlers import AGENT_GROUP, handlers
from ..workers.worker import RunResult, Worker, WorkerGroup, WorkerSpec
from .observer import NOBODY, Observer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ..events.model import Event, EventMetadataValue, EventSource
    from ..timers.file_client import FileTimerRequest

DEFAULT_ROLE = "default"


class ElasticAgent(ABC):
    """What keeps workers running on a node, or on behalf of one."""

    @abstractmethod
    def run(self, role: str = DEFAULT_ROLE) -> RunResult:
        """Run the workers to their end, through all restarts, and return how it went."""

    @abstractmethod
    def get_worker_group(self, role: str = DEFAULT_ROLE) -> WorkerGroup:
        """Return the worker group; it changes while the agent runs."""


class RecordedAgent(ElasticAgent):
    """An agent whose work can be recorded; a subclass may override each step here, or call it."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._worker_group = WorkerGroup(spec)
        self._remaining_restarts = spec.max_restarts
        self._total_execution_time = 0
        handler = spec.rdzv_handler
        self._rounds = handler if isinstance(handler, RoundHandler) else _polled(handler)
        self._last_look: RunResult | None = None
        self._metric_recorder: Observer | None = None
        self._events = self._make_event_observer()

    def get_worker_group(self, role: str = DEFAULT_ROLE) -> WorkerGroup:
        """Return the worker group itself, whatever the role."""
        return self._worker_group

    @property
    def _restart_count(self) -> int:
        return self._worker_group.spec.max_restarts - self._remaining_restarts

    def get_event_succeeded(self) -> Event:
        """Return the event of an agent whose job succeeded."""
        from ..events.model import EventSource  # few jobs record events

        return self._construct_event("SUCCEEDED", EventSource.AGENT)

    def get_event_failed(self) -> Event:
        """Return the event of an agent that failed by the exception that is being handled."""
        import traceback  # few jobs record events

        from ..events.model import EventSource

        return self._construct_event("FAILED", EventSource.AGENT, raw_error=traceback.format_exc())

    def _construct_event(
        self,
        state: str,
        source: EventSource,
        worker: Worker | None = None,
        raw_error: str | None = None,
        duration_ms: float | None = None,
        exit_code: int | None = None,
        worker_pid: int | None = None,
    ) -> Event:
        """Return an event of this agent, or of one of its workers.

        Args:
            state: What happened; the event's name ends with it.
            source: Whether it happened to the agent or to a worker.
            raw_error: What the worker left in its error file, or the agent's traceback.
            duration_ms: How long it took.
            exit_code: A failed worker's exit code, -n for signal n.
            worker_pid: A failed worker's process id.
        """
        from .event_recording import agent_event  # few jobs record events

        about: dict[str, EventMetadataValue] = {
            "run_id": self._rounds.get_run_id(),
            "total_run_time": self._total_execution_time,
            "rdzv_backend": self._rounds.get_backend(),
            "raw_error": raw_error,
            "agent_restarts": self._restart_count,
            "duration_ms": duration_ms,
        }
        ends = {"exit_code": exit_code, "worker_pid": worker_pid}
        return agent_event(self._worker_group, state, source, worker, ends, about)

    def record_duration(self, state: str) -> AbstractContextManager[None]:
        """Return a context that records, as an event, the time that its body takes."""
        return self._events.duration(state)

    def _record_worker_events(self, result: RunResult) -> None:
        """Record how each worker ended when the job did."""
        self._events.workers_ended(result)

    def _record_attempt_end(self) -> None:
        """Record how each worker ended when an attempt did, if there is one under way."""
        if self._last_look is not None:
            self._events.workers_ended(self._last_look)
            self._last_look = None

    def _log_watchdog_event(self, name: str, request: FileTimerRequest | None) -> None:
        """Record what a timer server has done, and about which request; from any thread."""
        self._events.timer_event(name, request)

    def _record_metrics(self, group_results: RunResult) -> None:
        """Publish how the job went: its flakiness, and one of four ways to end."""
        is_failed = group_results.is_failed()
        self._record_flakiness_metric(is_failed)
        self._put_role_metric("run_total", 1)
        has_restarted = self._restart_count != 0
        record = self._record_metric_with_condition
        record("run_success_with_retries", not is_failed and has_restarted)
        record("run_success_no_retries", not is_failed and not has_restarted)
        record("run_failed_with_retries", is_failed and has_restarted)
        record("run_failed_no_retries", is_failed and not has_restarted)

    def _record_metric_with_condition(self, metric_name: str, condition: bool) -> None:
        """Publish 1 where the condition holds, else 0, for the workers' role."""
        self._put_role_metric(metric_name, int(condition))

    def _record_flakiness_metric(self, is_failed: bool = False) -> None:
        """Publish the share of the restarts that the job has spent, in percent.

        A job that failed counts as 100; one that may never restart and succeeds as 0.
        """
        chances = self._worker_group.spec.max_restarts + 1
        spent = chances if is_failed else chances - (self._remaining_restarts + 1)
        self._put_role_metric("flakiness", int(100.0 * spent / chances))

    def _put_role_metric(self, name: str, value: int) -> None:
        self._metrics.metric(f"workers.{self._worker_group.spec.role}.{name}", value)

    @property
    def _metrics(self) -> Observer:
        """What takes this agent's metrics now: a handler may be configured at any time."""
        if handlers.of(AGENT_GROUP) is None:
            return NOBODY
        if self._metric_recorder is None:
            from .metric_recording import MetricRecorder  # few jobs have a handler

            self._metric_recorder = MetricRecorder()
        return self._metric_recorder

    def observe(self, observer: Observer) -> None:
        """Let an observer hear what this agent does, besides what records its events."""
        if self._events is NOBODY:
            self._events = observer
            return
        from .observers import Observers  # few jobs have two

        self._events = Observers(self._events, observer)

    def _make_event_observer(self) -> Observer:
        """Return what records events; a handler that is unknown is refused before the job starts.

        Raises:
            ValueError: There is no such handler, or it can't be loaded.
        """
        mine = type(self)._construct_event  # noqa: SLF001  its own, as its class has it
        is_own = mine is not RecordedAgent._construct_event
        if self._worker_group.spec.event_log_handler == "null" and not is_own:
            return NOBODY
        from .event_recording import EventRecorder  # few jobs record events

        return EventRecorder(self._worker_group, self._rounds, self._construct_event)


def _polled(handler: RendezvousHandler) -> RoundHandler:
    """Return another package's handler as one whose rounds end by a verdict."""
    from ...rendezvous.backends.polled import PolledRounds  # few jobs

    return PolledRounds(handler)
