"""Numbers that a program or an agent publishes, and the handlers that take them.

A metric is a group, a name and whole numbers over time. The names are torchrun's. An agent puts its
own into the group ``torchelastic``; docs/events.md lists them. Nothing is kept or shown until a
handler is configured::

    metrics.configure(metrics.ConsoleMetricHandler(), "torchelastic")
"""

from __future__ import annotations

import functools
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar, overload

from ..rendezvous.logs import Log
from ..rendezvous.named_tuple import NamedTuple
from .metric_handlers import AGENT_GROUP, handlers

__all__ = [
    "ConsoleMetricHandler",
    "MetricData",
    "MetricHandler",
    "MetricStream",
    "MetricsConfig",
    "NullMetricHandler",
    "configure",
    "getStream",
    "get_elapsed_time_ms",
    "initialize_metrics",
    "prof",
    "publish_metric",
    "put_metric",
]

log = Log(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")


class MetricData(NamedTuple):
    """One number.

    Args:
        timestamp: When, in seconds since the epoch.
        group_name: The metric's group.
        name: The metric's name.
        value: The number.
    """

    timestamp: float
    group_name: str
    name: str
    value: int


class MetricHandler(ABC):
    """Takes numbers to where somebody reads them."""

    @abstractmethod
    def emit(self, metric_data: MetricData) -> None:
        """Take a number."""


class NullMetricHandler(MetricHandler):
    """Drops all."""

    def emit(self, metric_data: MetricData) -> None:
        """Do nothing."""


class ConsoleMetricHandler(MetricHandler):
    """Writes a line for each number to standard error; standard output is the workers'."""

    def emit(self, metric_data: MetricData) -> None:
        """Write ``[timestamp][group]: name=value``."""
        timestamp, group, name, value = metric_data
        print(f"[{timestamp}][{group}]: {name}={value}", file=sys.stderr, flush=True)


class MetricStream:
    """Publishes the metrics of a group.

    Args:
        group_name: The group.
        handler: What takes them.
    """

    def __init__(self, group_name: str, handler: MetricHandler) -> None:
        self.group_name = group_name
        self.handler = handler

    def add_value(self, metric_name: str, metric_value: int) -> None:
        """Hand a number of now to the handler; raises what the handler raises."""
        self.handler.emit(MetricData(time.time(), self.group_name, metric_name, metric_value))


class MetricsConfig:
    """Which handlers take which groups.

    Args:
        params: Name of a handler (``null`` or ``console``) by group; the group "" stands for all
            that are not named.
    """

    __slots__ = ("params",)

    def __init__(self, params: Mapping[str, str] | None = None) -> None:
        self.params = dict(params or {})


_HANDLER_NAMED: dict[str, Callable[[], MetricHandler]] = {
    "null": NullMetricHandler,
    "console": ConsoleMetricHandler,
}


def configure(handler: MetricHandler, group: str | None = None) -> None:
    """Choose what takes the metrics of a group, from now on.

    Args:
        handler: What takes them.
        group: The group; None for all groups that have no handler of their own.
    """
    if group is None:
        handlers.default = handler
    else:
        handlers.by_group[group] = handler


def initialize_metrics(cfg: MetricsConfig | None = None) -> None:
    """Configure the handlers that a config names; an unknown one costs a warning."""
    for group, name in (cfg.params if cfg else {}).items():
        if name in _HANDLER_NAMED:
            configure(_HANDLER_NAMED[name](), group or None)
        else:
            log.warning(
                "metrics_cfg: there is no metric handler %r for the group %r; give %s",
                name,
                group,
                " or ".join(_HANDLER_NAMED),
            )


def getStream(group: str) -> MetricStream:
    """Return what publishes the metrics of a group, with the handler that it has now."""
    return MetricStream(group, handlers.of(group) or NullMetricHandler())


def put_metric(metric_name: str, metric_value: int, metric_group: str = AGENT_GROUP) -> None:
    """Publish a number.

    Args:
        metric_name: The metric's name.
        metric_value: The number; durations in milliseconds.
        metric_group: The metric's group.
    """
    getStream(metric_group).add_value(metric_name, metric_value)


def publish_metric(metric_group: str, metric_name: str, metric_value: int) -> None:
    """Publish a number: an older name of ``put_metric``, with the group first."""
    put_metric(metric_name, metric_value, metric_group)


def get_elapsed_time_ms(start_time_in_seconds: float) -> int:
    """Return the milliseconds since a moment that ``time.time()`` gave."""
    return int((time.time() - start_time_in_seconds) * 1000)


@overload
def prof(fn: Callable[_P, _R], group: str = ...) -> Callable[_P, _R]: ...
@overload
def prof(fn: None = None, group: str = ...) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]: ...
def prof(fn: Callable[_P, _R] | None = None, group: str = AGENT_GROUP) -> object:
    """Decorate a function so that each call publishes how it went and how long it took.

    The metrics are ``<name>.success`` or ``<name>.failure`` (1), and ``<name>.duration.ms``, where
    the name is ``Class.method`` or ``module.function``.

    Args:
        fn: The function; without it, the decorator is returned: ``@prof(group="data")``.
        group: The metrics' group.
    """
    return _profiled(fn, group) if fn else functools.partial(_profiled, group=group)


def _profiled(function: Callable[_P, _R], group: str) -> Callable[_P, _R]:
    name = function.__qualname__
    if "." not in name:
        name = f"{function.__module__.rpartition('.')[2]}.{name}"

    @functools.wraps(function)
    def profiled(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        started_at = time.monotonic()
        outcome = "failure"
        try:
            result = function(*args, **kwargs)
            outcome = "success"
            return result
        finally:
            put_metric(f"{name}.{outcome}", 1, group)
            put_metric(f"{name}.duration.ms", int((time.monotonic() - started_at) * 1000), group)

    return profiled
