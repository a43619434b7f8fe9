"""Hears what an agent does, so that it can be recorded; by default nobody listens.

Few jobs have a listener. The recorders of events (``event_recording.py``) and of metrics
(``metric_recording.py``) are imported only where somebody does.
"""

from __future__ import annotations

import contextlib
import functools
from contextlib import contextmanager

from ...rendezvous.api.handler import RendezvousInfo, Verdict
from ..workers.worker import RunResult
from .policy import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

    from ..failures.stack_places import Whereabouts
    from ..timers.file_client import FileTimerRequest

    class Measured(Protocol):
        """An agent whose steps are measured."""

        @property
        def _metrics(self) -> Observer: ...

    _P = ParamSpec("_P")
    _R = TypeVar("_R")
    _Agent = TypeVar("_Agent", bound=Measured)


HANDLER_TIMEOUT_S = 5.0
"""How long handlers have, once the job has ended, for what they have not taken yet."""

_NOTHING: AbstractContextManager[None] = contextlib.nullcontext()


class Observer:
    """Hears what an agent does, and records nothing of it."""

    def metric(self, name: str, value: int) -> None:
        """Hear of a number."""

    def measuring(self, step: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Return a context for one step of the agent, by its qualified name."""
        return _NOTHING

    def publishing(self) -> AbstractContextManager[None]:
        """Return a context for the whole run."""
        return _NOTHING

    def duration(self, state: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Return a context for something that takes time, by the name of its event."""
        return _NOTHING

    def meeting(self) -> AbstractContextManager[None]:
        """Return a context for the way into the next round."""
        return _NOTHING

    def joined(self, info: RendezvousInfo) -> None:
        """Hear that this node has a place in a round."""

    def round_ended(self, verdict: Verdict | None, step: Step) -> None:
        """Hear how a round has ended, if it has, and what this node does then."""

    def workers_started(self) -> None:
        """Hear that the workers run."""

    def workers_ended(self, result: RunResult) -> None:
        """Hear how the workers of an attempt have ended."""

    def places(self, why: str, found: Mapping[int, Whereabouts]) -> bool:  # noqa: ARG002
        """Hear, in any thread, where ranks were and why that was asked.

        Returns:
            Whether it keeps the whole stacks.
        """
        return False

    def timer_event(self, name: str, request: FileTimerRequest | None) -> None:
        """Hear, in any thread, what a timer server has done, and about which request."""


NOBODY = Observer()
"""Records nothing."""


def measured(
    step: Callable[Concatenate[_Agent, _P], _R],
) -> Callable[Concatenate[_Agent, _P], _R]:
    """Decorate a step of an agent so that its observer knows how it went and how long it took."""

    @functools.wraps(step)
    def measured_step(self: _Agent, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with self._metrics.measuring(step.__qualname__):
            return step(self, *args, **kwargs)

    return measured_step


def publishing_metrics(
    run: Callable[Concatenate[_Agent, _P], _R],
) -> Callable[Concatenate[_Agent, _P], _R]:
    """Decorate an agent's run so that a thread publishes its metrics: a handler may be slow."""

    @functools.wraps(run)
    def publishing_run(self: _Agent, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with self._metrics.publishing():
            return run(self, *args, **kwargs)

    return publishing_run


@contextmanager
def recorded_outcome(agent: Any) -> Iterator[None]:
    """Record how the body, which runs an agent, ends; see that the handler gets all events.

    Args:
        agent: The agent; a ``SimpleElasticAgent``.
    """
    destination = agent.get_worker_group().spec.event_log_handler
    if destination == "null":
        yield
        return
    from ..events.model import close, record  # noqa: PLC0415  few jobs have a handler

    try:
        yield
    except BaseException:
        record(agent.get_event_failed(), destination)
        raise
    else:
        record(agent.get_event_succeeded(), destination)
    finally:
        close(destination, HANDLER_TIMEOUT_S)
