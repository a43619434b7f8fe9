"""Tells OpenTelemetry what a job does on this node, as spans and events; ``docs/watching.md``.

The job's span has a ``rendezvous`` for each way into a round and an ``attempt`` for each round in
which this node had a place, with a ``worker`` for each of its workers. A decision is an event of
its attempt. Workers find the attempt's span in ``TRACEPARENT``: what they trace belongs to it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ...rendezvous.api.handler import RendezvousInfo, Verdict, VerdictKind
from ...rendezvous.named_tuple import NamedTuple
from ..events.telemetry import FinishedSpan, Occurrence, TelemetrySender
from ..failures.failure import signal_name
from ..failures.report import RootCause
from ..workers.worker import RunResult, WorkerGroup, WorkerState
from .observer import Moment, ObservingCompanion
from .policy import END_STEPS, Step, delay_of

if TYPE_CHECKING:
    from ..failures.failure import ProcessFailure

TRACE_PARENT = "TRACEPARENT"
"""W3C's way to hand a span to another program, here in its environment."""

MOST_CHARS = 2_000
MOST_TRACEBACK_CHARS = 30_000

_PARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$")
_FAILURES = (VerdictKind.WORKER_FAILED, VerdictKind.NODE_LOST, VerdictKind.ABORTED)


class Parent(NamedTuple):
    """The span in which elrun runs.

    Args:
        is_recorded: Whether its trace is recorded.
    """

    trace_id: int
    span_id: int
    is_recorded: bool


def parent_in(variables: Mapping[str, str]) -> Parent | None:
    """Return the span in which elrun runs, if whoever started elrun has named one."""
    found = _PARENT.match(variables.get(TRACE_PARENT, ""))
    if found is None:
        return None
    trace_id, span_id, flags = (int(each, 16) for each in found.groups())
    return Parent(trace_id, span_id, bool(flags & 1)) if trace_id and span_id else None


class _OpenSpan:
    """A span that has no end yet.

    Args:
        clock: Returns the nanoseconds since the epoch.
    """

    def __init__(
        self, name: str, parent_id: int, attributes: Mapping[str, Any], clock: Callable[[], int]
    ) -> None:
        self.id = int.from_bytes(os.urandom(8), "big") | 1  # 0 is none
        self.attributes = dict(attributes)
        self.problem: str | None = None
        self.occurrences: list[Occurrence] = []
        self._name = name
        self._parent_id = parent_id
        self._clock = clock
        self._began_at_ns = clock()

    def finished(self) -> FinishedSpan:
        return FinishedSpan(
            self._name,
            self.id,
            self._parent_id,
            self._began_at_ns,
            self._clock(),
            _known(self.attributes),
            self.problem,
            tuple(self.occurrences),
        )


class JobSpans(ObservingCompanion):
    """Makes spans of what an agent does.

    Args:
        parent_id: The span in which elrun runs; 0: there is none.
    """

    def __init__(
        self,
        sender: TelemetrySender,
        group: WorkerGroup,
        trace_id: int,
        parent_id: int,
        name: str,
        run_id: str,
    ) -> None:
        self._sender = sender
        self._group = group
        self._trace_id = trace_id
        about = {
            "elrun.run_id": run_id,
            "elrun.name": name,
            "elrun.role": group.spec.role,
            "elrun.max_restarts": group.spec.max_restarts,
        }
        self._began_at = Moment.now()
        self._job = self._open("job", parent_id, about)
        self._meeting: _OpenSpan | None = None
        self._attempt: _OpenSpan | None = None
        self._workers: dict[int, _OpenSpan] = {}
        self._is_waiting = False

    def environment(self) -> Mapping[str, str]:
        """Let what workers trace belong to their attempt."""
        span_id = (self._attempt or self._job).id
        return {TRACE_PARENT: f"00-{self._trace_id:032x}-{span_id:016x}-01"}

    def joining(self) -> None:
        """End the attempt before, and begin to meet the other nodes."""
        ended = self._end_attempt()
        self._meeting = self._open("rendezvous", self._job.id, {})
        self._sender.send(ended, [self._occurrence("joining", "this node meets the others", {})])

    def joined(self, info: RendezvousInfo) -> None:
        """Begin an attempt."""
        place, ended = info.placement, self._end_attempt()
        about = {
            "elrun.round": None if place is None else place.round,
            "elrun.restart_count": None if place is None else place.restart_count,
            "elrun.world_size": None if place is None else place.world_size,
            "elrun.group_rank": info.rank,
            "elrun.nodes": info.world_size,
        }
        if self._meeting is not None:
            self._meeting.attributes |= about
            ended.append(self._meeting.finished())
            self._meeting = None
        self._attempt = self._open("attempt", self._job.id, about)
        self._is_waiting = False
        text = f"this node is in round {about['elrun.round']}, as group rank {info.rank}"
        self._sender.send(ended, [self._occurrence("joined", text, about)])

    def workers_started(self) -> None:
        """Begin a span for each worker."""
        parent_id = (self._attempt or self._job).id
        for each in self._group.workers:
            about = {"elrun.rank": each.global_rank, "elrun.local_rank": each.local_rank}
            if isinstance(each.id, int):
                about["process.pid"] = each.id
            self._workers[each.global_rank] = self._open("worker", parent_id, about)
        ranks = {"elrun.ranks": sorted(self._workers)}
        self._sender.send([], [self._occurrence("running", "the workers have started", ranks)])

    def round_ended(self, verdict: Verdict | None, step: Step, at: Moment | None = None) -> None:
        """Add the decision, and the failure that led to it, to the attempt."""
        at_ns = self._now_ns(at)
        if step is Step.WAIT_FOR_OTHERS and not self._is_waiting:
            self._is_waiting = True
            text = "this node's workers have succeeded; it waits for the others"
            self._sender.send([], [self._occurrence("waiting", text, {})])
        if step not in END_STEPS:
            return
        reason = "" if verdict is None else verdict.reason
        is_problem = verdict is not None and verdict.kind in _FAILURES
        about = {
            "elrun.decision": END_STEPS[step],
            "elrun.verdict": None if verdict is None else verdict.kind.value,
            "elrun.by_group_rank": None if verdict is None else verdict.by,
            "elrun.reason": _shortened(reason),
            "elrun.restart_delay_s": delay_of(verdict) if step is Step.RESTART else None,
        }
        text = f"{reason or 'the round ended'}; {END_STEPS[step]}"
        decision = self._occurrence("decision", text, about, is_problem=is_problem)
        decision = decision._replace(at_ns=at_ns)
        root = _root_in(verdict)
        if self._attempt is not None:
            self._attempt.occurrences += [
                decision,
                *([] if root is None else [self._exception(root)._replace(at_ns=at_ns)]),
            ]
            self._attempt.problem = _shortened(reason) if is_problem else None
        self._sender.send(
            [], [decision._replace(attributes={**decision.attributes, **_about(root)})]
        )

    def workers_ended(self, result: RunResult) -> None:
        """End the spans of workers that have failed, or of all that have succeeded."""
        ended, occurrences = [], []
        for rank, failure in result.failures.items():
            if (span := self._workers.pop(rank, None)) is not None:
                span.attributes |= _about_failure(failure)
                span.problem = _shortened(failure.summary)
                ended.append(span.finished())
                about = span.attributes
                text = f"rank {rank}: {failure.summary}"
                occurrences.append(self._occurrence("worker.failed", text, about, is_problem=True))
        if result.state is WorkerState.SUCCEEDED:
            for span in self._workers.values():
                span.attributes["process.exit.code"] = 0
            ended += self._end_workers()
        self._sender.send(ended, occurrences)

    def finish(self, state: str, exit_code: int, reason: str) -> None:
        """End all spans, and wait for a bounded time until they are sent.

        Args:
            state: How the job ended on this node.
            exit_code: elrun's.
            reason: Why, as a sentence; empty after a success.
        """
        ended = self._end_attempt()
        if self._meeting is not None:
            self._meeting.problem = _shortened(reason)
            ended.append(self._meeting.finished())
        self._job.attributes |= {"elrun.state": state, "process.exit.code": exit_code}
        self._job.problem = _shortened(reason or state) if exit_code else None
        text = f"{state}: {reason}" if reason else state
        about = {"elrun.state": state, "process.exit.code": exit_code}
        end = self._occurrence("end", text, about, is_problem=exit_code != 0)
        self._sender.send([*ended, self._job.finished()], [end])
        self._sender.close()

    def _end_attempt(self) -> list[FinishedSpan]:
        ended = self._end_workers()
        if self._attempt is not None:
            ended.append(self._attempt.finished())
            self._attempt = None
        return ended

    def _end_workers(self) -> list[FinishedSpan]:
        workers, self._workers = self._workers, {}
        return [each.finished() for each in workers.values()]

    def _occurrence(
        self, name: str, text: str, attributes: Mapping[str, Any], *, is_problem: bool = False
    ) -> Occurrence:
        span_id = (self._attempt or self._meeting or self._job).id
        about = _known({"elrun.run_id": self._job.attributes["elrun.run_id"], **attributes})
        text = _shortened(text)
        return Occurrence(f"elrun.{name}", self._now_ns(), about, text, is_problem, span_id)

    def _open(self, name: str, parent_id: int, attributes: Mapping[str, Any]) -> _OpenSpan:
        return _OpenSpan(name, parent_id, attributes, self._now_ns)

    def _now_ns(self, at: Moment | None = None) -> int:
        """Return a moment, by default this one, in nanoseconds since the epoch.

        A clock that was set since the job began would give spans that end before they begin.
        """
        return int((at or Moment.now()).on_clock_of(self._began_at) * 1e9)

    def _exception(self, root: RootCause) -> Occurrence:
        """Return the event by which OpenTelemetry's readers know an exception."""
        text = root.message
        return self._occurrence("exception", text, _about(root))._replace(name="exception")


def _about(root: RootCause | None) -> dict[str, Any]:
    if root is None:
        return {}
    return _known(
        {
            "exception.type": root.exception or root.end,
            "exception.message": _shortened(root.message),
            "exception.stacktrace": root.traceback,
            "elrun.rank": root.global_rank,
            "host.name": root.node,
        }
    )


def _about_failure(failure: ProcessFailure) -> dict[str, Any]:
    code = failure.exitcode
    if code < 0:
        name = signal_name(code)
        return {"elrun.signal": name, "error.type": failure.exception or name}
    return {"process.exit.code": code, "error.type": failure.exception or f"exit code {code}"}


def _root_in(verdict: Verdict | None) -> RootCause | None:
    if verdict is None:
        return None
    try:
        return RootCause.from_json(dict(verdict.details))
    except ValueError:  # the round did not end by a worker's failure
        return None


def _known(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that have a value, since OpenTelemetry has no null."""
    return {
        name: _shortened(value, MOST_TRACEBACK_CHARS) if isinstance(value, str) else value
        for name, value in attributes.items()
        if value not in (None, "")
    }


def _shortened(text: str, most: int = MOST_CHARS) -> str:
    text = text.encode("utf-8", "replace").decode()  # what workers print is any bytes
    return text if len(text) <= most else f"{text[: most - 1]}…"
