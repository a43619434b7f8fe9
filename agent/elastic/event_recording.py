"""What an agent tells about its work: the template's events.

Few jobs have anybody who listens, so the modules that events need are imported only once somebody
does: an event log handler is named.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...rendezvous.api.handler import RendezvousInfo, RoundHandler, Verdict
from ...rendezvous.errors import RendezvousGracefulExitError
from ..failures.failure import NOT_AVAILABLE
from ..workers.worker import RunResult, Worker, WorkerGroup, WorkerState
from .metric_recording import HANDLER_TIMEOUT_S, imported
from .policy import Step

if TYPE_CHECKING:
    from ..events.model import Event, EventSource, NodeState


class Recording:
    """The part of an agent that records; what it reads, the agent sets."""

    _worker_group: WorkerGroup
    _remaining_restarts: int
    _total_execution_time: int
    _rounds: RoundHandler
    _last_look: RunResult | None = None
    """How the workers of this attempt stood when last looked at; None once that is recorded."""

    def _open_event_log(self) -> None:
        """Make the event log handler ready: one that is unknown is refused before the job starts.

        Raises:
            ValueError: There is no such handler, or it can't be loaded.
        """
        destination = self._worker_group.spec.event_log_handler
        if destination != "null":
            from ..events.handlers import recorder_of  # noqa: PLC0415  see the head of this file

            recorder_of(destination)

    def get_event_succeeded(self) -> Event:
        """Return the event of an agent whose job succeeded."""
        from ..events.model import EventSource  # noqa: PLC0415  see the head of this file

        return self._construct_event("SUCCEEDED", EventSource.AGENT)

    def get_event_failed(self) -> Event:
        """Return the event of an agent that failed by the exception that is being handled."""
        import traceback  # noqa: PLC0415  see the head of this file

        from ..events.model import EventSource  # noqa: PLC0415

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
            source: Whom it happened to.
            worker: The worker.
            raw_error: What the worker left in its error file, or the agent's traceback.
            duration_ms: How long it took.
            exit_code: A failed worker's exit code, -n for signal n.
            worker_pid: A failed worker's process id.
        """
        import json  # noqa: PLC0415  see the head of this file

        from ..events.model import Event, now_ms  # noqa: PLC0415

        group, spec = self._worker_group, self._worker_group.spec
        more: dict[str, object] = {
            "group_world_size": group.group_world_size,
            "entry_point": spec.get_entrypoint_name(),
        }
        if worker is not None:  # lists of one, as readers of torchrun's events expect them
            more |= {
                "local_rank": [worker.local_rank],
                "role_rank": [worker.role_rank],
                "role_world_size": [worker.role_world_size],
                "exit_code": [exit_code],
                "worker_pid": [worker_pid],
            }
        return Event(
            f"torchelastic.worker.status.{state}",
            source,
            now_ms(),
            {
                "run_id": self._rounds.get_run_id(),
                "global_rank": None if worker is None else worker.global_rank,
                "group_rank": group.group_rank,
                "worker_id": None if worker is None else str(worker.id),
                "role": spec.role,
                "hostname": os.uname().nodename,
                "state": state,
                "total_run_time": self._total_execution_time,
                "rdzv_backend": self._rounds.get_backend(),
                "raw_error": raw_error,
                "metadata": json.dumps(more),
                "agent_restarts": spec.max_restarts - self._remaining_restarts,
                "duration_ms": duration_ms,
            },
        )

    def _record_worker_starts(self) -> None:
        if not self._has_listeners:
            return
        from ..events.model import EventSource  # noqa: PLC0415  see the head of this file

        for worker in self._worker_group.workers:
            self._record_event(self._construct_event("START", EventSource.WORKER, worker))

    def _record_worker_events(self, result: RunResult) -> None:
        """Record how each worker ended when the job did."""
        self._record_worker_ends(result)

    def _record_attempt_end(self) -> None:
        """Record how each worker ended when an attempt did, if there is one under way."""
        if self._last_look is not None:
            self._record_worker_ends(self._last_look)
            self._last_look = None

    def _record_worker_ends(self, result: RunResult) -> None:
        if not self._has_listeners:
            return
        from ..events.model import EventSource  # noqa: PLC0415  see the head of this file

        for worker in self._worker_group.workers:
            failure = result.failures.get(worker.global_rank)
            error: object = None
            if failure is not None:
                has_error_file = failure.error_file != NOT_AVAILABLE
                error = failure.error_file_data if has_error_file else {"message": failure.message}
            self._record_event(
                self._construct_event(
                    self._get_worker_state(worker, result),
                    EventSource.WORKER,
                    worker,
                    raw_error=_as_json(error) if error else None,
                    exit_code=failure.exitcode if failure else None,
                    worker_pid=failure.pid if failure else None,
                )
            )

    def _get_worker_state(self, worker: Worker, result: RunResult) -> str:
        """Return how a worker ended; one that the agent stops is ``TERMINATED``."""
        if worker.global_rank in result.failures:
            return WorkerState.FAILED.value
        is_done = result.state is WorkerState.SUCCEEDED
        return WorkerState.SUCCEEDED.value if is_done else "TERMINATED"

    @contextmanager
    def record_duration(self, state: str) -> Iterator[None]:
        """Record an agent's event with the time that the body takes, however it ends.

        Args:
            state: What the body does.
        """
        if not self._has_listeners:
            yield
            return
        from ..events.model import EventSource  # noqa: PLC0415  see the head of this file

        started_at = time.monotonic()
        try:
            yield
        finally:
            duration_ms = (time.monotonic() - started_at) * 1000
            self._record_event(
                self._construct_event(state, EventSource.AGENT, duration_ms=duration_ms)
            )

    def _log_watchdog_event(self, name: str, request: Any) -> None:
        """Record what a timer server has done; from any thread.

        Args:
            name: What it has done; the event's name.
            request: The ``FileTimerRequest`` that it was done about, if there is one.
        """
        if not self._has_listeners:
            return
        import json  # noqa: PLC0415  see the head of this file

        from ..events.model import EventSource  # noqa: PLC0415

        more = {"watchdog_event": name}
        if request is not None:
            more |= {
                "worker_pid": str(request.worker_pid),
                "scope_id": request.scope_id,
                "expiration_time": str(request.expiration_time),
                "signal": str(request.signal),
            }
        event = self._construct_event("RUNNING", EventSource.AGENT)
        event.name = name
        event.metadata["metadata"] = json.dumps(more)
        self._record_event(event)

    def _record_event(self, event: Event) -> None:
        from ..events.model import record  # noqa: PLC0415  see the head of this file

        record(event, self._worker_group.spec.event_log_handler)

    # Events of the rendezvous.

    @contextmanager
    def _recorded_rendezvous(self) -> Iterator[None]:
        """Record the wish to join a round, how long it took, and why it was in vain."""
        if not self._has_listeners:
            yield
            return
        from ..events.model import NodeState  # noqa: PLC0415  see the head of this file

        self._record_step("join", NodeState.INIT, "this node wants to join the next round")
        try:
            with self.record_duration("RENDEZVOUS"):
                yield
        except RendezvousGracefulExitError as error:
            self._record_step("left", NodeState.SUCCEEDED, str(error))
            raise
        except BaseException as error:
            import traceback  # noqa: PLC0415  see the head of this file

            what = str(error) or repr(error)
            self._record_step("failed", NodeState.FAILED, what, traceback.format_exc())
            raise

    def _record_joined(self, info: RendezvousInfo) -> None:
        if not self._has_listeners:
            return
        from ..events.model import NodeState  # noqa: PLC0415  see the head of this file

        number = "a round" if info.placement is None else f"round {info.placement.round}"
        message = f"this node is in {number}, as group rank {info.rank} of {info.world_size}"
        self._record_step("joined", NodeState.RUNNING, message)

    def _record_verdict(self, verdict: Verdict | None, step: Step) -> None:
        """Record how the round ended, if it has, and whether this node goes on to the next."""
        if verdict is None or not self._has_listeners:
            return
        from ..events.model import NodeState  # noqa: PLC0415  see the head of this file

        if step is Step.FINISH:
            state = NodeState.SUCCEEDED
        elif step in (Step.RESTART, Step.REJOIN):
            state = NodeState.RUNNING
        else:
            state = NodeState.FAILED
        reason = f": {verdict.reason}" if verdict.reason else ""
        self._record_step("ended", state, f"the round ended: {verdict.kind.value}{reason}")

    def _record_step(
        self, name: str, state: NodeState, message: str, error_trace: str = ""
    ) -> None:
        from ..events.model import RdzvEvent, now_ms, record_rdzv_event  # noqa: PLC0415  head of this file

        group = self._worker_group
        has_place = group.group_rank is not None
        event = RdzvEvent(
            name=f"rendezvous.{name}",
            run_id=self._rounds.get_run_id(),
            message=message,
            hostname=os.uname().nodename,
            pid=os.getpid(),
            node_state=state,
            master_endpoint=f"{group.master_addr}:{group.master_port}" if has_place else "",
            rank=group.group_rank,
            error_trace=error_trace,
            timestamp=now_ms(),
        )
        record_rdzv_event(event, group.spec.event_log_handler)

    @property
    def _has_listeners(self) -> bool:
        """Whether somebody may want to know: where not, nothing is constructed or imported."""
        has_handler = self._worker_group.spec.event_log_handler != "null"
        return has_handler or imported("events") is not None


@contextmanager
def recorded_outcome(agent: Any) -> Iterator[None]:
    """Record how the body, which runs an agent, ends; see that the handler gets all events.

    Args:
        agent: The agent; a ``Recording``.
    """
    destination = agent.get_worker_group().spec.event_log_handler
    if destination == "null":
        yield
        return
    from ..events.model import close, record  # noqa: PLC0415  see the head of this file

    try:
        yield
    except BaseException:
        record(agent.get_event_failed(), destination)
        raise
    else:
        record(agent.get_event_succeeded(), destination)
    finally:
        close(destination, HANDLER_TIMEOUT_S)


def _as_json(error: object) -> str:
    import json  # noqa: PLC0415  see the head of this file

    try:
        return json.dumps(error)
    except RecursionError:  # a worker's error file may be as deep as could just be read
        return '{"message": "the error file is too deep"}'
