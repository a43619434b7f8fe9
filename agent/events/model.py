"""What happens to a job, as values that a handler takes: to a file, a console, or a service.

An agent records what its workers and it do as ``Event``, and its way through the rendezvous as
``RdzvEvent``. The names and the fields are torchrun's, so that what reads its events reads these.
Recording never waits for a handler, and no handler can fail the job.
"""

from __future__ import annotations

import enum
import json
import os
import sys
import time
import traceback
from dataclasses import asdict, dataclass, field

from ..json_objects import object_in
from .handlers import close_recorder, recorder_of

EventMetadataValue = str | int | float | bool | None


class EventSource(str, enum.Enum):
    """What an event is about."""

    AGENT = "AGENT"
    WORKER = "WORKER"


class NodeState(str, enum.Enum):
    """How a node stands in the rendezvous."""

    INIT = "INIT"
    """It waits for a round."""
    RUNNING = "RUNNING"
    """It is in a round, or on its way from one to the next."""
    SUCCEEDED = "SUCCEEDED"
    """The run has ended well for it."""
    FAILED = "FAILED"
    """The run has ended otherwise for it."""


@dataclass
class Event:
    """Something that happened to an agent or a worker.

    Args:
        name: What happened.
        source: Whether it happened to the agent or to a worker.
        timestamp: When, in milliseconds since the epoch by this node's clock.
        metadata: All else that is known about it.
    """

    name: str
    source: EventSource
    timestamp: int = 0
    metadata: dict[str, EventMetadataValue] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.serialize()

    def serialize(self) -> str:
        """Return the event as one line of JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def deserialize(data: str | Event) -> Event:
        """Return the event that ``serialize`` wrote; an event is returned as it is.

        Raises:
            ValueError: The data is no JSON of an event.
        """
        if isinstance(data, Event):
            return data
        fields = object_in(data)
        try:
            return Event(**{**fields, "source": EventSource(fields["source"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not an event: {error!r}") from error


@dataclass
class RdzvEvent:
    """A step of a node on its way through the rendezvous.

    Args:
        name: The step.
        run_id: The job's name.
        message: What happened, as a sentence.
        hostname: The node's host name.
        pid: Process id of its agent.
        node_state: How the node stands.
        master_endpoint: ``host:port`` at which the round's workers meet, if known.
        rank: The node's group rank, if it has one.
        local_id: A number that the backend gave the node, if it gives any.
        error_trace: The traceback, where the step failed.
        timestamp: When, in milliseconds since the epoch by this node's clock.
    """

    name: str
    run_id: str
    message: str
    hostname: str
    pid: int
    node_state: NodeState
    master_endpoint: str = ""
    rank: int | None = None
    local_id: int | None = None
    error_trace: str = ""
    timestamp: int = 0

    def __str__(self) -> str:
        return self.serialize()

    def serialize(self) -> str:
        """Return the event as one line of JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def deserialize(data: str | RdzvEvent) -> RdzvEvent:
        """Return the event that ``serialize`` wrote; an event is returned as it is.

        Raises:
            ValueError: The data is no JSON of a rendezvous event.
        """
        if isinstance(data, RdzvEvent):
            return data
        fields = object_in(data)
        try:
            return RdzvEvent(**{**fields, "node_state": NodeState(fields["node_state"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a rendezvous event: {error!r}") from error


def now_ms() -> int:
    """Return the time in milliseconds since the epoch, as in events."""
    return time.time_ns() // 1_000_000


def record(event: Event, destination: str = "null") -> None:
    """Hand an event to a handler, without waiting for it.

    Args:
        event: What happened.
        destination: Name of the handler; see ``get_logging_handler``.

    Raises:
        ValueError: There is no such handler, or it can't be loaded.
    """
    if destination != "null":
        recorder_of(destination).take(event.serialize())


def record_rdzv_event(event: RdzvEvent, destination: str = "null") -> None:
    """Hand an event of the rendezvous to a handler; see ``record``."""
    if destination != "null":
        recorder_of(destination).take(event.serialize())


def construct_and_record_rdzv_event(
    run_id: str,
    message: str,
    node_state: NodeState,
    name: str = "",
    hostname: str = "",
    pid: int | None = None,
    master_endpoint: str = "",
    local_id: int | None = None,
    rank: int | None = None,
    *,
    destination: str = "null",
) -> None:
    """Make an event of the rendezvous and hand it to a handler.

    What the caller leaves out is filled in: the host, the process, the time, the name from the
    function that calls and its file, and for a failed node the exception that is being handled.

    Args:
        run_id: The job's name.
        message: What happened, as a sentence.
        node_state: How the node stands.
        name: The step.
        hostname: The node's host name.
        pid: Process id of the node's agent.
        master_endpoint: ``host:port`` at which the round's workers meet, if known.
        local_id: A number that the backend gave the node, if it gives any.
        rank: The node's group rank, if it has one.
        destination: Name of the handler.
    """
    if destination == "null":
        return
    caller = sys._getframe(1).f_code
    is_handling_error = node_state is NodeState.FAILED and sys.exc_info()[0] is not None
    event = RdzvEvent(
        name=f"{os.path.basename(caller.co_filename)}:{name or caller.co_name}",
        run_id=run_id,
        message=message,
        hostname=hostname or os.uname().nodename,
        pid=os.getpid() if pid is None else pid,
        node_state=node_state,
        master_endpoint=master_endpoint,
        rank=rank,
        local_id=local_id,
        error_trace=traceback.format_exc() if is_handling_error else "",
        timestamp=now_ms(),
    )
    record_rdzv_event(event, destination)


def close(destination: str, timeout_s: float) -> None:
    """Wait until a handler has taken all events, for a bounded time, and close it.

    Args:
        destination: Name of the handler.
        timeout_s: How long that may take; what the handler has not taken by then is lost.
    """
    if destination != "null":
        close_recorder(destination, timeout_s)
