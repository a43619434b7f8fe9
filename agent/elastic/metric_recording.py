"""Publishes what an agent counts and measures, as metrics of the group ``torchelastic``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from .. import metrics
from ..background import Background
from ..metric_handlers import AGENT_GROUP
from . import observer


class MetricRecorder(observer.Observer):
    """Publishes what it hears; while the agent runs, by a thread, since a handler may be slow."""

    def __init__(self) -> None:
        self._background: Background | None = None

    def metric(self, name: str, value: int) -> None:
        """Publish a number."""
        if self._background is None:  # a step that is called by itself, outside of a run
            metrics.put_metric(name, value)
            return
        stream = metrics.getStream(AGENT_GROUP)
        data = metrics.MetricData(time.time(), stream.group_name, name, value)
        self._background.call(lambda: stream.handler.emit(data))

    @contextmanager
    def measuring(self, step: str) -> Iterator[None]:
        """Publish what ``metrics.prof`` would of a step."""
        started_at = time.monotonic()
        outcome = "failure"
        try:
            yield
            outcome = "success"
        finally:
            duration_ms = int((time.monotonic() - started_at) * 1000)
            self.metric(f"{step}.{outcome}", 1)
            self.metric(f"{step}.duration.ms", duration_ms)

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Publish by a thread, which has some seconds at the end."""
        self._background = Background("a metric handler", "metrics")
        try:
            yield
        finally:
            background, self._background = self._background, None
            background.close(observer.HANDLER_TIMEOUT_S)
