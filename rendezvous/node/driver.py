"""Drives one node's machine over a real store: one thread handles events and carries out actions.

Events come by one queue: the agent's questions, the ends of waits, and deadlines. The thread makes
the short calls to the store itself, one after the other. Between events, and while it waits for an
answer, it reads the connections of the stores (``stores/loop.py``). Whatever may block for long
completes into the queue: a wait, as ``stores/store.py`` has it, and each attempt to reach a store,
which has a thread of its own.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from _queue import SimpleQueue  # `queue` takes two million instructions for other ones
from collections.abc import Callable, Sequence

from ..errors import RendezvousError
from ..light_typing import Any, TypeVar
from ..stores.loop import Loop
from ..stores.steps import CONNECT, SLEEP, SURVEY, Request, Steps, call
from ..stores.store import Store, as_wait, watch
from ..threads import start_daemon
from .machine import Act, Answered, Asked, Deliver, Event
from .procedures import RoundMachine
from .resources import Resources

_T = TypeVar("_T")

_BEGINNINGS = (RoundMachine.next_round, RoundMachine.decline)
"""The questions that need a store where the node has none yet."""
_THREADS = {CONNECT: "elrun-connect", SURVEY: "elrun-scout"}
"""The requests that may take long, by their names, and the threads that carry them out."""
_ERRORS = (RendezvousError, OSError, ValueError)


class _Reply:
    """The answer to a question, for the thread that asked it."""

    def __init__(self) -> None:
        self._is_there = threading.Event()
        self._value: Any = None
        self._error: Exception | None = None

    def give(self, value: Any, error: Exception | None) -> None:
        self._value, self._error = value, error
        self._is_there.set()

    def take(self, timeout_s: float | None) -> Any:
        if not self._is_there.wait(as_wait(timeout_s)):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._value


class Driver:
    """The thread of one node.

    Args:
        machine: The node's machine.
        resources: The node's stores and ports.
        wake: Called whenever the verdict may have changed.
        clock: A monotonic clock.
    """

    def __init__(
        self,
        machine: RoundMachine,
        resources: Resources,
        wake: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._machine = machine
        self._resources = resources
        self._wake = wake
        self._clock = clock
        self._events: SimpleQueue[Event | BaseException | None] = SimpleQueue()
        self._numbers = itertools.count()
        # Only the driver's thread uses this.
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        # It has a loop from when it begins; while it lasts, another thread wakes it for an event.
        self._loop: Loop | None = None
        # The lock guards what follows, and the machine.
        self._lock = threading.Lock()
        self._has_begun = self._is_over = self._has_failed = False
        self._replies: dict[int, _Reply] = {}

    def ask(
        self, question: Callable[..., Steps[_T]], *args: Any, timeout_s: float | None = None
    ) -> _T:
        """Return the answer to a question; any thread may ask.

        Args:
            question: A method of ``RoundMachine``.
            args: Its arguments.
            timeout_s: How long the answer may take; None: as long as it takes.

        Raises:
            RendezvousError: As the method of ``RoundHandler`` does; or the thread has failed.
            TimeoutError: The answer takes longer.
        """
        reply, number = _Reply(), next(self._numbers)
        with self._lock:
            if self._has_failed:
                raise self._resources.closed_error()
            if question in _BEGINNINGS and not self._has_begun and not self._is_over:
                self._begin()
            self._replies[number] = reply
            is_driven = self._has_begun and not self._is_over
        event = Asked(number, question, args)
        if is_driven:
            self._put(event)
        else:  # without a store there is nothing to wait for
            self._handle(event)
        answer: _T = reply.take(timeout_s)
        return answer

    def close(self) -> None:
        """End the thread, and close what the node has opened; each call that waits raises."""
        with self._lock:
            self._is_over = True
        self._put(None)
        self._resources.close()
        # In case it was not asked in time.
        self._handle(Asked(next(self._numbers), RoundMachine.leave))
        self._end_replies()

    def _begin(self) -> None:
        """Start the thread; called with the lock held."""
        loop = Loop()
        try:
            start_daemon(self._drive, "elrun-node", loop)
        except OSError:
            loop.close()
            raise
        self._loop, self._has_begun = loop, True
        self._resources.read_by(loop)

    def _put(self, event: Event | BaseException | None) -> None:
        self._events.put(event)
        if self._loop is not None:
            self._loop.wake()

    def _drive(self, loop: Loop) -> None:
        loop.enter()
        try:
            while (event := self._next_event(loop)) is not None:
                self._handle(event)
        except BaseException:  # a fault: nobody may wait without end for an answer or a verdict
            with self._lock:
                self._is_over = self._has_failed = True
                self._machine.state.break_down("the thread of this node's rendezvous has failed")
            self._wake()
            self._end_replies()
            self._resources.close()  # nobody reads their answers any more
            raise
        finally:
            loop.close()

    def _next_event(self, loop: Loop) -> Event | None:
        while True:
            left_s = self._due[0][0] - self._clock() if self._due else None
            if left_s is not None and left_s <= 0:
                heapq.heappop(self._due)[2]()
                left_s = 0.0
            if self._events.empty():  # only this thread takes events out
                loop.turn(left_s)
                continue
            event = self._events.get_nowait()
            if isinstance(event, BaseException):
                raise event
            return event

    def _handle(self, event: Event) -> None:
        with self._lock:
            actions = self._machine.handle(event, self._clock())
        for action in actions:
            if isinstance(action, Act):
                self._act(action.number, action.request)
            elif isinstance(action, Deliver):
                with self._lock:
                    reply = self._replies.pop(action.number, None)
                if reply is not None:
                    reply.give(action.value, action.error)
            else:
                self._wake()

    def _act(self, number: int, request: Request) -> None:
        """Carry out a request, or see to it that it is carried out."""
        name, args = request.name, request.args
        try:
            if name == "wait":
                self._wait(number, self._resources.store(request.store), *args)
            elif name == SLEEP:
                self._after(args[0], lambda: self._answer(number, None))
            elif name in _THREADS:
                start_daemon(self._call_aside, _THREADS[name], number, request)
            else:
                self._answer(number, self._call(request))
        except _ERRORS as error:
            self._answer(number, None, error)

    def _call(self, request: Request) -> Any:
        store, name, args = request
        if store is None:
            return getattr(self._resources, name)(*args)
        if name == "close":
            return self._resources.close_store(store)
        return call(self._resources.store(store), name, args)

    def _answer(self, number: int, value: Any, error: Exception | None = None) -> None:
        self._put(Answered(number, value, error))

    def _take(self, number: int, found: Any) -> None:
        """Answer with what was found; an error that no store raises ends the node's thread."""
        if not isinstance(found, BaseException):
            self._answer(number, found)
        elif isinstance(found, _ERRORS):
            self._answer(number, None, found)
        else:
            self._put(found)

    def _after(self, seconds: float, then: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self._clock() + seconds, next(self._numbers), then))

    def _call_aside(self, number: int, request: Request) -> None:
        """Carry a request out in a thread of its own."""
        try:
            found = self._call(request)
        except BaseException as error:  # noqa: BLE001  the node's thread raises a fault
            found = error
        self._take(number, found)

    def _wait(
        self, number: int, store: Store, keys: Sequence[str], timeout_s: float | None
    ) -> None:
        take_back = watch(store, keys, timeout_s, lambda found: self._take(number, found))
        if take_back is not None and timeout_s is not None:
            self._after(timeout_s, lambda: self._end_wait(number, take_back))

    def _end_wait(self, number: int, take_back: Callable[[], bool]) -> None:
        try:
            if take_back():
                self._answer(number, None)
        except _ERRORS as error:
            self._answer(number, None, error)

    def _end_replies(self) -> None:
        with self._lock:
            replies, self._replies = list(self._replies.values()), {}
        for reply in replies:
            reply.give(None, self._resources.closed_error())
