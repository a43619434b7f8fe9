"""Records what an agent does as events: torchrun's, for the handler that the job names."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...rendezvous.api.handler import RendezvousInfo, RoundHandler, Verdict
from ...rendezvous.errors import RendezvousGracefulExitError
from ..events.handlers import recorder_of
from ..events.model import (
    Event,
    EventMetadataValue,
    EventSource,
    NodeState,
    RdzvEvent,
    now_ms,
    record,
    record_rdzv_event,
)
from ..failures.failure import NOT_AVAILABLE
from ..workers.worker import RunResult, Worker, WorkerGroup, WorkerState
from .observer import Moment, Observer
from .policy import Step

if TYPE_CHECKING:
    from ..timers.file_client import FileTimerRequest


_METADATA = (
    *("run_id", "global_rank", "group_rank", "worker_id", "role", "hostname", "state"),
    *("total_run_time", "rdzv_backend", "raw_error", "metadata", "agent_restarts", "duration_ms"),
)
"""The fields of an event's metadata, in torchrun's order."""


def agent_event(
    group: WorkerGroup,
    state: str,
    source: EventSource,
    worker: Worker | None,
    ends: Mapping[str, EventMetadataValue],
    about: Mapping[str, EventMetadataValue],
) -> Event:
    """Return an event of an agent, or of one of its workers.

    Args:
        state: What happened; the event's name ends with it.
        source: Whether it happened to the agent or to a worker.
        ends: Its exit code and process id, if it failed.
        about: More of the metadata.
    """
    spec = group.spec
    more: dict[str, object] = {
        "group_world_size": group.group_world_size,
        "entry_point": spec.get_entrypoint_name(),
    }
    if worker is not None:  # lists of one, as readers of torchrun's events expect them
        more |= {
            "local_rank": [worker.local_rank],
            "role_rank": [worker.role_rank],
            "role_world_size": [worker.role_world_size],
            **{name: [value] for name, value in ends.items()},
        }
    metadata: dict[str, EventMetadataValue] = {
        "global_rank": None if worker is None else worker.global_rank,
        "group_rank": group.group_rank,
        "worker_id": None if worker is None else str(worker.id),
        "role": spec.role,
        "hostname": os.uname().nodename,
        "state": state,
        "metadata": json.dumps(more),
        **about,
    }
    name = f"torchelastic.worker.status.{state}"
    return Event(name, source, now_ms(), {field: metadata[field] for field in _METADATA})


class EventRecorder(Observer):
    """Hands events to the handler that the job names.

    Args:
        make: Makes an event of the agent: its ``_construct_event``, which a subclass may override.

    Raises:
        ValueError: There is no such handler, or it can't be loaded.
    """

    def __init__(
        self, group: WorkerGroup, rounds: RoundHandler, make: Callable[..., Event]
    ) -> None:
        self._group = group
        self._rounds = rounds
        self._make = make
        self._destination = group.spec.event_log_handler
        if self._destination != "null":
            recorder_of(self._destination)

    def workers_started(self) -> None:
        """Record the start of each worker."""
        for worker in self._group.workers:
            record(self._make("START", EventSource.WORKER, worker), self._destination)

    def workers_ended(self, result: RunResult) -> None:
        """Record how each worker ended."""
        for worker in self._group.workers:
            failure = result.failures.get(worker.global_rank)
            error: object = None
            if failure is not None:
                has_error_file = failure.error_file != NOT_AVAILABLE
                error = failure.error_file_data if has_error_file else {"message": failure.message}
            event = self._make(
                _end_state(worker, result),
                EventSource.WORKER,
                worker,
                raw_error=_as_json(error) if error else None,
                exit_code=failure.exitcode if failure else None,
                worker_pid=failure.pid if failure else None,
            )
            record(event, self._destination)

    @contextmanager
    def duration(self, state: str) -> Iterator[None]:
        """Record the time that the body takes, however it ends."""
        started_at = time.monotonic()
        try:
            yield
        finally:
            duration_ms = (time.monotonic() - started_at) * 1000
            event = self._make(state, EventSource.AGENT, duration_ms=duration_ms)
            record(event, self._destination)

    def timer_event(self, name: str, request: FileTimerRequest | None) -> None:
        """Record what a timer server has done; from any thread."""
        more = {"watchdog_event": name}
        if request is not None:
            more |= {
                "worker_pid": str(request.worker_pid),
                "scope_id": request.scope_id,
                "expiration_time": str(request.expiration_time),
                "signal": str(request.signal),
            }
        event = self._make("RUNNING", EventSource.AGENT)
        event.name = name
        event.metadata["metadata"] = json.dumps(more)
        record(event, self._destination)

    @contextmanager
    def meeting(self) -> Iterator[None]:
        """Record the wish to join a round, how long it took, and why it was in vain."""
        self._record_step("join", NodeState.INIT, "this node wants to join the next round")
        try:
            with self.duration("RENDEZVOUS"):
                yield
        except RendezvousGracefulExitError as error:
            self._record_step("left", NodeState.SUCCEEDED, str(error))
            raise
        except BaseException as error:
            what = str(error) or repr(error)
            self._record_step("failed", NodeState.FAILED, what, traceback.format_exc())
            raise

    def joined(self, info: RendezvousInfo) -> None:
        """Record this node's place in the round."""
        number = "a round" if info.placement is None else f"round {info.placement.round}"
        message = f"this node is in {number}, as group rank {info.rank} of {info.world_size}"
        self._record_step("joined", NodeState.RUNNING, message)

    def round_ended(self, verdict: Verdict | None, step: Step, at: Moment | None = None) -> None:
        """Record how the round ended, if it has, and whether this node goes on to the next."""
        if verdict is None:
            return
        if step is Step.FINISH:
            state = NodeState.SUCCEEDED
        elif step in (Step.RESTART, Step.REJOIN):
            state = NodeState.RUNNING
        else:
            state = NodeState.FAILED
        reason = f": {verdict.reason}" if verdict.reason else ""
        message = f"the round ended: {verdict.kind.value}{reason}"
        self._record_step("ended", state, message, at=at)

    def _record_step(
        self,
        name: str,
        state: NodeState,
        message: str,
        error_trace: str = "",
        at: Moment | None = None,
    ) -> None:
        group = self._group
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
            timestamp=now_ms() if at is None else int(at.wall_s * 1000),
        )
        record_rdzv_event(event, self._destination)


def _end_state(worker: Worker, result: RunResult) -> str:
    """Return how a worker ended; one that the agent stops is ``TERMINATED``."""
    if worker.global_rank in result.failures:
        return WorkerState.FAILED.value
    is_done = result.state is WorkerState.SUCCEEDED
    return WorkerState.SUCCEEDED.value if is_done else "TERMINATED"


def _as_json(error: object) -> str:
    try:
        return json.dumps(error)
    except RecursionError:  # a worker's error file may be as deep as could just be read
        return '{"message": "the error file is too deep"}'
