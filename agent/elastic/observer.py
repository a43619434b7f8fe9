"""Hears what an agent does, so that it can be recorded; by default nobody listens.

Few jobs have a listener. The recorders of events (``event_recording.py``) and of metrics
(``metric_recording.py``) are imported only where somebody does.
"""

from __future__ import annotations

import contextlib
import functools
import time
from contextlib import contextmanager

from ...rendezvous.api.handler import RendezvousInfo, Verdict
from ..processes.companion import Companion, Wakes
from ..workers.worker import RunResult, Worker, WorkerGroup
from .policy import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

    from ..failures.stack_places import Whereabouts
    from ..processes.context import PContext
    from ..timers.file_client import FileTimerRequest

    class Measured(Protocol):
        """An agent whose steps are measured."""

        @property
        def _metrics(self) -> Observer: ...

    _P = ParamSpec("_P")
    _R = TypeVar("_R")
    _Agent = TypeVar("_Agent", bound=Measured)

    # When, with which workers, and the call that tells an observer of it.
    Heard = tuple["Moment", tuple[Worker, ...], Callable[["Observer"], object]]

    # By global rank: the last of what was printed, and how many bytes were printed in all.
    Ends = Mapping[int, tuple[bytes, int, int | None]]


HANDLER_TIMEOUT_S = 5.0
"""How long handlers have, once the job has ended, for what they have not taken yet."""

_NOTHING: AbstractContextManager[None] = contextlib.nullcontext()


class Observer:
    """Hears what an agent does, and records nothing of it."""

    def metric(self, name: str, value: int) -> None:
        """Hear of a number."""

    def measuring(self, step: str) -> AbstractContextManager[None]:
        """Return a context for one step of the agent, by its qualified name."""
        return _NOTHING

    def publishing(self) -> AbstractContextManager[None]:
        """Return a context for the whole run."""
        return _NOTHING

    def duration(self, state: str) -> AbstractContextManager[None]:
        """Return a context for something that takes time, by the name of its event."""
        return _NOTHING

    def meeting(self) -> AbstractContextManager[None]:
        """Return a context for the way into the next round."""
        self.joining()
        return _NOTHING

    def joining(self) -> None:
        """Hear that this node is about to meet the others."""

    def joined(self, info: RendezvousInfo) -> None:
        """Hear that this node has a place in a round."""

    def round_ended(self, verdict: Verdict | None, step: Step, at: Moment | None = None) -> None:
        """Hear how a round has ended, if it has, and what this node does then.

        Args:
            at: When; None: now.
        """

    def workers_started(self) -> None:
        """Hear that the workers run."""

    def workers_ended(self, result: RunResult) -> None:
        """Hear how the workers of an attempt have ended."""

    def places(self, why: str, found: Mapping[int, Whereabouts]) -> bool:
        """Hear, in any thread, where ranks were and why that was asked.

        Returns:
            Whether it keeps the whole stacks.
        """
        return False

    def timer_event(self, name: str, request: FileTimerRequest | None) -> None:
        """Hear, in any thread, what a timer server has done, and about which request."""


NOBODY = Observer()
"""Records nothing."""


class ObservingCompanion(Observer, Companion):
    """Stands beside the agent's loop, too."""


class Moment:
    """When something happened.

    Args:
        wall_s: In seconds since the epoch.
        boot_s: Since the host was started; while it is suspended, this clock goes on, and the
            monotonic one stands still.
    """

    __slots__ = ("boot_s", "wall_s")

    def __init__(self, wall_s: float, boot_s: float) -> None:
        self.wall_s = wall_s
        self.boot_s = boot_s

    @classmethod
    def now(cls) -> Moment:
        """Return this moment."""
        return cls(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))

    def since(self, earlier: Moment) -> float:
        """Return the seconds that have passed, whatever the host's clock was set to meanwhile."""
        return self.boot_s - earlier.boot_s

    def on_clock_of(self, earlier: Moment) -> float:
        """Return the seconds since the epoch by the clock as it was at an earlier moment.

        So the times of one record have the right order and distance, though the host's clock was
        set meanwhile.
        """
        return earlier.wall_s + self.since(earlier)


_MANY_ATTEMPTS = 20


class LateObserver(ObservingCompanion):
    """Keeps in memory what an agent does, until that is worth a record of its own.

    Most jobs are short and succeed: they make no record, and load nothing for it. A record is made
    once an attempt has run for a while, after many attempts, or where the caller wants it at the
    end.

    Args:
        make: Makes the record from all that has happened; called once.
        after_s: How long an attempt runs before the record is made.
        end_reader: Returns what reads, then and later, the ends of what the ranks of the attempt
            that runs have printed; None: nothing does.
    """

    def __init__(
        self,
        make: Callable[[Moment, Sequence[Heard]], Observer],
        group: WorkerGroup,
        after_s: float = 5.0,
        end_reader: Callable[[], Callable[[], Ends]] | None = None,
    ) -> None:
        self._make = make
        self._group = group
        self._after_s = after_s
        self._began_at = Moment.now()
        self._heard: list[Heard] = []
        self._record: Observer | None = None
        self._due_at_s: float | None = None
        self._end_reader = end_reader
        self._read_ends: Callable[[], Ends] | None = None
        self.ends_before: Ends = {}
        """What the ranks of the attempt before have printed last, where no record was made yet."""

        self.attempts = 0
        """How many attempts there were."""

    def record(self) -> Observer:
        """Return the record; make it if there is none."""
        if self._record is None:
            self._record = self._make(self._began_at, self._heard)
            self._heard = []
            self._due_at_s = self._read_ends = None
            self.ends_before = {}
        return self._record

    @property
    def has_record(self) -> bool:
        """Whether the record has been made."""
        return self._record is not None

    def joining(self) -> None:
        """Take note."""
        self._hear(lambda each: each.joining())

    def joined(self, info: RendezvousInfo) -> None:
        """Take note."""
        self.attempts += 1
        if self.attempts > _MANY_ATTEMPTS and self._record is None:
            self.record()  # which forgets in time, unlike what is kept here
        self._hear(lambda each: each.joined(info))

    def workers_started(self) -> None:
        """Take note, and keep what the attempt before has printed last."""
        if self._record is None and self._end_reader is not None:
            self.ends_before = {} if self._read_ends is None else self._read_ends()
            self._read_ends = self._end_reader()
        self._hear(lambda each: each.workers_started())

    def round_ended(self, verdict: Verdict | None, step: Step, at: Moment | None = None) -> None:
        """Take note of an end; most calls tell of none."""
        if step is not Step.WATCH:
            at = at or Moment.now()
            self._hear(lambda each: each.round_ended(verdict, step, at))

    def workers_ended(self, result: RunResult) -> None:
        """Take note."""
        self._hear(lambda each: each.workers_ended(result))

    def begin_attempt(self, workers: PContext) -> None:
        """Let the record be made in a while."""
        if self._record is None:
            self._due_at_s = time.monotonic() + self._after_s

    def wakes(self) -> Wakes:
        """Return when the record is due."""
        if self._due_at_s is None:
            return Wakes()
        return Wakes((), max(0.0, self._due_at_s - time.monotonic()))

    def tick(self) -> None:
        """Make the record if it is due."""
        if self._due_at_s is not None and time.monotonic() >= self._due_at_s:
            self.record()

    def _hear(self, call: Callable[[Observer], object]) -> None:
        if self._record is None:
            self._heard.append((Moment.now(), tuple(self._group.workers), call))
        else:
            call(self._record)


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
    from ..events.model import close, record  # few jobs have a handler

    try:
        yield
    except BaseException:
        record(agent.get_event_failed(), destination)
        raise
    else:
        record(agent.get_event_succeeded(), destination)
    finally:
        close(destination, HANDLER_TIMEOUT_S)
