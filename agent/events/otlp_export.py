"""Sends spans and events by OTLP over HTTP, with the OpenTelemetry packages; see ``telemetry.py``.

The exporters and the data model are OpenTelemetry's. Its providers and processors are not used:
they start threads that wake every second, and register functions that run in each process that
this one forks.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import requests
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from ..background import NotTakenError
from .telemetry import FinishedSpan, Occurrence

_SCOPE = "elrun"
_SERVICE, _UNNAMED = "service.name", "unknown_service"
_LOGGERS = ("opentelemetry", "urllib3")
_SUCCESS = "SUCCESS"
_TAKEN = range(200, 300)


class _Quiet(logging.Filter):
    """Keeps what the packages log in one thread from the user's terminal, and takes note of it.

    Args:
        on_trouble: Called when they have something to say.
    """

    def __init__(self, on_trouble: Callable[[], None]) -> None:
        super().__init__()
        self._thread = threading.get_ident()
        self._on_trouble = on_trouble

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self._thread:
            return True
        if record.levelno >= logging.WARNING:
            self._on_trouble()
        return False


class _Session(requests.Session):
    """Sends requests for an exporter, and keeps why the collector did not take the latest one.

    Attributes:
        problem: Why; empty if it did.
    """

    problem = ""

    def request(self, method: Any, url: Any, *args: Any, **options: Any) -> Any:
        """Send one request; see ``requests.Session``."""
        place = urlsplit(url)
        host = place.netloc.rpartition("@")[2]  # what stands before it may be a password
        target = f"{place.scheme}://{host}{place.path}"
        try:
            answer = super().request(method, url, *args, **options)
        except Exception as error:
            self.problem = f"{target}: {_words_of(error)}"
            raise
        words = f"{target} answered {answer.status_code} {answer.reason}".rstrip()
        self.problem = "" if answer.status_code in _TAKEN else words
        return answer


def _words_of(error: BaseException) -> str:
    """Return what the system said of an exception that the packages have wrapped several times."""
    while True:
        candidates = (getattr(error, "reason", None), *error.args, error.__cause__)
        inner = next((each for each in candidates if isinstance(each, BaseException)), None)
        if inner is None:
            return getattr(error, "strerror", None) or str(error) or type(error).__name__
        error = inner


class OtlpExport:
    """What sends spans and events; all but ``stop_retrying`` is called in one thread.

    Args:
        resource: See ``TelemetrySender``; what the environment says of the resource goes before.
        on_trouble: Called when the collector does not take something at the first try.
    """

    def __init__(
        self,
        variables: Mapping[str, str],
        resource: Mapping[str, Any],
        trace_id: int,
        on_trouble: Callable[[], None],
    ) -> None:
        of_user = Resource.create()  # by OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
        self._resource = Resource(dict(resource)).merge(of_user)
        if str(of_user.attributes[_SERVICE]).startswith(_UNNAMED):
            self._resource = self._resource.merge(Resource({_SERVICE: _SCOPE}))
        self._scope = InstrumentationScope(_SCOPE)
        self._trace_id = trace_id
        self._report_trouble = on_trouble
        self.is_in_trouble = self._is_stopped = False
        is_wanted = {
            kind: variables.get(f"OTEL_{kind}_EXPORTER", "otlp").strip() != "none"
            for kind in ("TRACES", "LOGS")
        }
        has_own = any("CREDENTIAL_PROVIDER" in name for name in variables)  # which makes sessions
        self._sessions = () if has_own else (_Session(), _Session())  # each has its own headers
        spans, logs = self._sessions or (None, None)
        self._spans = OTLPSpanExporter(session=spans) if is_wanted["TRACES"] else None
        self._logs = OTLPLogExporter(session=logs) if is_wanted["LOGS"] else None
        self._keep_quiet()

    def send(self, spans: Sequence[FinishedSpan], occurrences: Sequence[Occurrence]) -> None:
        """Send these.

        Raises:
            NotTakenError: The collector does not take them.
        """
        self.is_in_trouble = False
        results = []
        if spans and self._spans is not None:
            results.append(self._spans.export([self._as_span(each) for each in spans]).name)
        if occurrences and self._logs is not None:
            results.append(self._logs.export([self._as_log(each) for each in occurrences]).name)
        problem = next((each.problem for each in self._sessions if each.problem), "")
        if problem or any(each != _SUCCESS for each in results):
            raise NotTakenError(problem or "it is not asked any more")

    def stop_retrying(self) -> None:
        """Let nothing be sent again that the collector does not take; from any thread."""
        is_stopped, self._is_stopped = self._is_stopped, True
        if self._spans is not None and not is_stopped:
            self._spans.shutdown()  # type: ignore[no-untyped-call]
        if self._logs is not None and not is_stopped:
            self._logs.shutdown()  # type: ignore[no-untyped-call]

    def _note_trouble(self) -> None:
        self.is_in_trouble = True
        self._report_trouble()

    def _keep_quiet(self) -> None:
        quiet = _Quiet(self._note_trouble)
        for name in list(logging.root.manager.loggerDict):
            if name.partition(".")[0] in _LOGGERS:
                logging.getLogger(name).addFilter(quiet)

    def _context(self, span_id: int) -> SpanContext:
        return SpanContext(
            self._trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)
        )

    def _as_span(self, span: FinishedSpan) -> ReadableSpan:
        code = StatusCode.UNSET if span.problem is None else StatusCode.ERROR
        return ReadableSpan(
            span.name,
            context=self._context(span.span_id),
            parent=self._context(span.parent_id) if span.parent_id else None,
            resource=self._resource,
            attributes=dict(span.attributes),
            events=[
                Event(each.name, dict(each.attributes), each.at_ns) for each in span.occurrences
            ],
            status=Status(code, span.problem),
            start_time=span.began_at_ns,
            end_time=span.ended_at_ns,
            instrumentation_scope=self._scope,
        )

    def _as_log(self, occurrence: Occurrence) -> ReadableLogRecord:
        number = SeverityNumber.ERROR if occurrence.is_problem else SeverityNumber.INFO
        record = LogRecord(
            timestamp=occurrence.at_ns,
            observed_timestamp=occurrence.at_ns,
            context=set_span_in_context(NonRecordingSpan(self._context(occurrence.span_id))),
            severity_number=number,
            severity_text=number.name,
            body=occurrence.text,
            attributes=dict(occurrence.attributes),
            event_name=occurrence.name,
        )
        return ReadableLogRecord(record, self._resource, self._scope)
