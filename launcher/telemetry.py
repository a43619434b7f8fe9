"""Lets a collector of OpenTelemetry's have a job's spans and events, where ``OTEL_…`` names one."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..agent.elastic.job_spans import JobSpans, parent_in
from ..agent.events.telemetry import TelemetrySender
from ..rendezvous.logs import Log
from .commandline.environment import COLLECTOR_VARIABLES
from .commandline.version import __version__
from .reporting import outcome_of

if TYPE_CHECKING:
    from ..agent.elastic.local import LocalElasticAgent

log = Log(__name__)

FLUSH_VARIABLE = "ELRUN_OTEL_FLUSH_TIMEOUT"
DEFAULT_FLUSH_S = 5.0
PROTOCOL_VARIABLE = "OTEL_EXPORTER_OTLP_PROTOCOL"

_PROTOCOL = "http/protobuf"


@contextlib.contextmanager
def traced(variables: Mapping[str, str], agent: LocalElasticAgent, name: str) -> Iterator[None]:
    """Let the collector have what an agent does while the body runs it.

    Args:
        agent: The agent, which does not run yet.
    """
    parent = parent_in(variables)
    if refusal := _refusal(variables):
        log.warning("no spans and events are sent: %s", refusal)
    if refusal or (parent is not None and not parent.is_recorded):
        yield
        return
    trace_id = parent.trace_id if parent else int.from_bytes(os.urandom(16), "big") | 1
    resource = {
        "service.version": __version__,
        "host.name": os.uname().nodename,
        "process.pid": os.getpid(),
    }
    sender = TelemetrySender(variables, resource, trace_id, _flush_s(variables))
    group, run_id = agent.get_worker_group(), agent.rounds.get_run_id()
    parent_id = parent.span_id if parent else 0
    spans = JobSpans(sender, group, trace_id, parent_id, os.path.basename(name), run_id)
    agent.keep(spans)
    try:
        yield
    except BaseException as error:
        spans.finish(*outcome_of(error)[:3])
        raise
    spans.finish(*outcome_of(None)[:3])


def _refusal(variables: Mapping[str, str]) -> str:
    """Return why nothing can be sent, whatever the collector is; or nothing."""
    protocol = variables.get(PROTOCOL_VARIABLE) or _PROTOCOL
    if protocol != _PROTOCOL:
        return f"elrun speaks {_PROTOCOL} alone, not {protocol} ({PROTOCOL_VARIABLE})"
    for name in COLLECTOR_VARIABLES:
        endpoint = variables.get(name, "").strip().lower()
        if endpoint and not endpoint.startswith(("http://", "https://")):
            return f"{name} is no URL: give one such as http://collector:4318"
    return ""


def _flush_s(variables: Mapping[str, str]) -> float:
    said = variables.get(FLUSH_VARIABLE) or str(DEFAULT_FLUSH_S)
    with contextlib.suppress(ValueError):
        seconds = float(said)
        if 0 <= seconds < math.inf:
            return seconds
    log.warning("%s=%s: give seconds; it is %g", FLUSH_VARIABLE, said, DEFAULT_FLUSH_S)
    return DEFAULT_FLUSH_S
