"""What an agent counts and measures: the template's metrics.

Few jobs have anybody who listens, so the module of metrics is not imported here: where nobody else
has imported it, nobody can have configured a handler.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from ..workers.worker import RunResult, WorkerGroup

if TYPE_CHECKING:
    from ..background import Background

HANDLER_TIMEOUT_S = 5.0
"""How long handlers have, once the job has ended, for what they have not taken yet."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


def imported(name: str) -> ModuleType | None:
    """Return a module of the agent if somebody has imported it, as those who listen have."""
    return sys.modules.get(f"{__package__.rpartition('.')[0]}.{name}")


class Measuring:
    """The part of an agent that publishes metrics; what it reads, the agent sets."""

    _worker_group: WorkerGroup
    _remaining_restarts: int
    _metrics_background: Background | None = None

    def _record_metrics(self, group_results: RunResult) -> None:
        """Publish how the job went: its flakiness, and one of four ways to end."""
        is_failed = group_results.is_failed()
        self._record_flakiness_metric(is_failed)
        self._put_role_metric("run_total", 1)
        spec = self._worker_group.spec
        has_restarted = self._remaining_restarts != spec.max_restarts
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
        self._put_metric(f"workers.{self._worker_group.spec.role}.{name}", value)

    def _put_metric(self, name: str, value: int) -> None:
        metrics = imported("metrics")
        if metrics is None:
            return
        if self._metrics_background is None:  # a step that is called by itself, outside of a run
            metrics.put_metric(name, value)
            return
        stream = metrics.getStream(metrics.AGENT_GROUP)
        data = metrics.MetricData(time.time(), stream.group_name, name, value)
        self._metrics_background.call(lambda: stream.handler.emit(data))


_Agent = TypeVar("_Agent", bound=Measuring)


def measured(
    step: Callable[Concatenate[_Agent, _P], _R],
) -> Callable[Concatenate[_Agent, _P], _R]:
    """Decorate a step of an agent so that it publishes what ``metrics.prof`` would."""

    @functools.wraps(step)
    def measured_step(self: _Agent, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        if imported("metrics") is None:
            return step(self, *args, **kwargs)
        started_at = time.monotonic()
        outcome = "failure"
        try:
            result = step(self, *args, **kwargs)
            outcome = "success"
            return result
        finally:
            duration_ms = int((time.monotonic() - started_at) * 1000)
            self._put_metric(f"{step.__qualname__}.{outcome}", 1)
            self._put_metric(f"{step.__qualname__}.duration.ms", duration_ms)

    return measured_step


def publishing_metrics(
    run: Callable[Concatenate[_Agent, _P], _R],
) -> Callable[Concatenate[_Agent, _P], _R]:
    """Decorate an agent's run so that a thread publishes its metrics: a handler may be slow."""

    @functools.wraps(run)
    def publishing_run(self: _Agent, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        if imported("metrics") is None:
            return run(self, *args, **kwargs)
        from ..background import Background  # noqa: PLC0415  few jobs

        self._metrics_background = Background("a metric handler", "metrics")
        try:
            return run(self, *args, **kwargs)
        finally:
            background, self._metrics_background = self._metrics_background, None
            if background is not None:
                background.close(HANDLER_TIMEOUT_S)

    return publishing_run
