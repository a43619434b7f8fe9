"""Spans and events of a job as plain values, and the thread that sends them to a collector.

The agent hands values over and never waits: importing the OpenTelemetry packages, encoding, and
every request happen in the thread. At the end there is a bounded time for what is not sent yet, and
nothing is tried again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...rendezvous.logs import Log
from ...rendezvous.named_tuple import NamedTuple
from ..background import Background

if TYPE_CHECKING:
    from .otlp_export import OtlpExport

log = Log(__name__)

_PACKAGES = ("opentelemetry", "requests")


class Occurrence(NamedTuple):
    """Something that happened at one moment.

    Args:
        name: What kind of thing, such as ``elrun.round.ended``.
        at_ns: When, in nanoseconds since the epoch.
        text: What happened, as a sentence.
        is_problem: Whether it is a failure.
    """

    name: str
    at_ns: int
    attributes: Mapping[str, Any]
    text: str
    is_problem: bool
    span_id: int


class FinishedSpan(NamedTuple):
    """Something that took time.

    Args:
        parent_id: The id of the span that it is a part of; 0: of none.
        began_at_ns: When it began, in nanoseconds since the epoch.
        problem: Why it failed; None: it did not.
        occurrences: What happened meanwhile.
    """

    name: str
    span_id: int
    parent_id: int
    began_at_ns: int
    ended_at_ns: int
    attributes: Mapping[str, Any]
    problem: str | None = None
    occurrences: Sequence[Occurrence] = ()


class TelemetrySender:
    """Sends spans and events in a thread of its own.

    Args:
        variables: The environment, with the user's ``OTEL_…``.
        resource: What is true of all of them: the service's name, the host, the process.
        flush_s: How long the end of the job may wait for what is not sent yet.
    """

    def __init__(
        self,
        variables: Mapping[str, str],
        resource: Mapping[str, Any],
        trace_id: int,
        flush_s: float,
    ) -> None:
        self._variables = variables
        self._resource = resource
        self._trace_id = trace_id
        self._flush_s = flush_s
        self._background = Background("OpenTelemetry's collector", "spans and events")
        self._export: OtlpExport | None = None
        self._is_closing = self._has_tried = False

    def send(self, spans: Sequence[FinishedSpan], occurrences: Sequence[Occurrence]) -> None:
        """Have these sent soon; return at once."""
        if spans or occurrences:
            self._background.call(lambda: self._send(spans, occurrences))

    def close(self) -> None:
        """Wait until all is sent, for a bounded time; a collector in trouble is not waited for."""
        self._is_closing = True
        if self._export is not None and self._export.is_in_trouble:
            self._export.stop_retrying()
        self._background.close(self._flush_s)

    def _send(self, spans: Sequence[FinishedSpan], occurrences: Sequence[Occurrence]) -> None:
        if not self._has_tried:
            self._has_tried = True  # once, whatever comes of it
            self._export = self._opened()
        if self._export is not None:
            self._export.send(spans, occurrences)

    def _hear_of_trouble(self) -> None:
        if self._is_closing and self._export is not None:
            self._export.stop_retrying()

    def _opened(self) -> OtlpExport | None:
        try:
            from .otlp_export import OtlpExport  # 0.3 s, in this thread
        except ImportError as error:
            if (error.name or "").partition(".")[0] not in _PACKAGES:
                raise
            log.info("no spans and events are sent: pip install 'elrun[otel]' (%s)", error)
            return None
        return OtlpExport(self._variables, self._resource, self._trace_id, self._hear_of_trouble)
