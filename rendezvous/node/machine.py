"""The rendezvous of one node as a machine without I/O: events go in, actions come out.

The node's procedures (``RoundMachine`` in ``procedures.py``) run side by side in the machine: the
way into the next round, the heartbeat, the wait for the verdict, the scout, and what the agent
asks. Each procedure waits for one answer at a time. ``handle`` takes one event and returns all
actions that follow from it. A driver carries the actions out and brings their answers as events:
with threads and a real store (``driver.py``), or in a loop with a virtual clock
(``tests/simulation``). The driver calls ``handle`` for one event at a time; so nothing in a machine
needs a lock.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from ..errors import RendezvousError
from ..light_typing import Any
from ..named_tuple import NamedTuple
from ..stores.steps import Request, Steps

Question = Callable[..., Steps[Any]]
"""What the agent may ask: a method of ``RoundMachine`` that returns steps."""


class Asked(NamedTuple):
    """Event: the agent asks.

    Args:
        number: The question's; the answer bears the same.
    """

    number: int
    question: Question
    args: tuple[Any, ...] = ()


class Answered(NamedTuple):
    """Event: an action has an answer.

    A store has answered, a key that was waited for is there, a time is over, or the answer is an
    error: the store is lost.

    Args:
        error: What came instead of an answer.
    """

    number: int
    value: Any = None
    error: Exception | None = None


Event = Asked | Answered


class Act(NamedTuple):
    """Action: carry out a request, and bring its answer.

    Args:
        number: The answer bears the same.
    """

    number: int
    request: Request


class Deliver(NamedTuple):
    """Action: give the agent the answer to its question.

    Args:
        error: What the agent's call raises instead.
    """

    number: int
    value: Any = None
    error: Exception | None = None


class Wake(NamedTuple):
    """Action: tell the agent that the verdict may have changed."""


Action = Act | Deliver | Wake

_Done = Callable[[Any, Exception | None], None]


class Machine:
    """Lets the procedures of one node go on; a subclass has them as methods."""

    def __init__(self) -> None:
        self._now = 0.0
        self._numbers = itertools.count()
        self._waiting: dict[int, tuple[Steps[Any], _Done]] = {}
        self._actions: list[Action] = []

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take in an event; return what is to be done now.

        Args:
            now: The time, by the node's monotonic clock.
        """
        self._now = now
        if isinstance(event, Answered):
            number, answer, failure = event
            if number in self._waiting:
                steps, done = self._waiting.pop(number)
                self._resume(steps, done, answer, failure)
        else:
            number, question, args = event
            self._resume(
                question(self, *args),
                lambda value, error: self._actions.append(Deliver(number, value, error)),
                None,
                None,
            )
        actions, self._actions = self._actions, []
        return actions

    def _clock(self) -> float:
        return self._now

    def _wake(self) -> None:
        self._actions.append(Wake())

    def _spawn(self, steps: Steps[None]) -> None:
        """Let a procedure run beside the others; an error that ends it concerns no other."""
        self._resume(steps, lambda _value, _error: None, None, None)

    def _resume(self, steps: Steps[Any], done: _Done, value: Any, error: Exception | None) -> None:
        """Let a procedure go on until it waits for its next answer, or ends."""
        try:
            request = steps.send(value) if error is None else steps.throw(error)
        except StopIteration as end:
            done(end.value, None)
        except (RendezvousError, OSError, ValueError) as failure:
            done(None, failure)
        else:
            number = next(self._numbers)
            self._waiting[number] = steps, done
            self._actions.append(Act(number, request))
