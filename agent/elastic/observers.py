"""Several observers of one agent, met as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager

from ...rendezvous.api.handler import RendezvousInfo, Verdict
from ..workers.worker import RunResult
from .observer import Moment, Observer
from .policy import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..failures.stack_places import Whereabouts
    from ..timers.file_client import FileTimerRequest


class Observers(Observer):
    """Lets each of some observers hear what an agent does, in their order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def duration(self, state: str) -> AbstractContextManager[None]:
        """Return a context for all of them."""
        return self._within(lambda each: each.duration(state))

    def meeting(self) -> AbstractContextManager[None]:
        """Return a context for all of them."""
        return self._within(lambda each: each.meeting())

    @contextmanager
    def _within(
        self, context_of: Callable[[Observer], AbstractContextManager[None]]
    ) -> Iterator[None]:
        with ExitStack() as contexts:
            for each in self._observers:
                contexts.enter_context(context_of(each))
            yield

    def joining(self) -> None:
        """Tell each of them."""
        for each in self._observers:
            each.joining()

    def joined(self, info: RendezvousInfo) -> None:
        """Tell each of them."""
        for each in self._observers:
            each.joined(info)

    def round_ended(self, verdict: Verdict | None, step: Step, at: Moment | None = None) -> None:
        """Tell each of them."""
        at = at or Moment.now()
        for each in self._observers:
            each.round_ended(verdict, step, at)

    def workers_started(self) -> None:
        """Tell each of them."""
        for each in self._observers:
            each.workers_started()

    def workers_ended(self, result: RunResult) -> None:
        """Tell each of them."""
        for each in self._observers:
            each.workers_ended(result)

    def places(self, why: str, found: Mapping[int, Whereabouts]) -> bool:
        """Tell each of them; return whether any keeps the whole stacks."""
        answers = [each.places(why, found) for each in self._observers]
        return any(answers)

    def timer_event(self, name: str, request: FileTimerRequest | None) -> None:
        """Tell each of them."""
        for each in self._observers:
            each.timer_event(name, request)
