"""Asks one of several servers, and the next one when that fails."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from ...errors import RendezvousClosedError, RendezvousConnectionError
from ...logs import Log
from ...protocol.announcements import Announcement, should_announce

log = Log(__name__)

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5
_TELL_AFTER_S = 2.0
_LONGEST_ANSWER_S = 4.0

_C = TypeVar("_C")
_T = TypeVar("_T")


class Unreachable(Exception):  # noqa: N818  a state of affairs; it never leaves this room
    """A server can't serve now: another one may, or this one a moment later.

    Args:
        reason: Why not, for people.
        patience_s: The longest time for which it is worth while to try.
    """

    def __init__(self, reason: str, patience_s: float = math.inf) -> None:
        super().__init__(reason)
        self.patience_s = patience_s


class Failover(Generic[_C]):
    """Calls functions with the client of a server that serves.

    What is called must bear to be called again: its reply may have been lost on the way.

    Args:
        name: What the servers are called together.
        clients: One for each server.
        patience_s: For how long a call is tried; while no server serves, all calls together. Each
            call asks every server once at least.
        on_trouble: Called, from any thread, whenever a server did not serve.
        clock: A monotonic clock.
        tell_after_s: When people are told first that no server serves.
    """

    def __init__(
        self,
        name: str,
        clients: Sequence[_C],
        patience_s: float,
        on_trouble: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        tell_after_s: float = _TELL_AFTER_S,
    ) -> None:
        self._name = name
        self._clients = clients
        self._patience_s = patience_s
        self._on_trouble = on_trouble
        self._clock = clock
        self._tell_after_s = tell_after_s
        self._ended = threading.Event()
        # Written under the lock, by whoever notices first.
        self._lock = threading.Lock()
        self._index = 0
        self._in_vain_since: float | None = None
        self._reasons: dict[int, str] = {}
        self._announced: Announcement | None = None
        self._end: str = ""

    @property
    def index(self) -> int:
        """Which of the servers is asked at present."""
        return self._index

    def call(
        self,
        function: Callable[[_C], _T],
        patience_s: float | None = None,
        stop: threading.Event | None = None,
        setting: str = "store_patience",
    ) -> _T:
        """Return what the function returns for the first client that serves.

        Args:
            function: Raises ``Unreachable`` if another attempt makes sense.
            patience_s: For how long it is tried; by default as long as the constructor said.
            stop: Ends the attempts.
            setting: Name of the setting that says for how long, for people.

        Raises:
            RendezvousConnectionError: No server served in time, or ``end`` was called.
            RendezvousClosedError: ``stop`` was set.
        """
        patience_s = self._patience_s if patience_s is None else patience_s
        began_at = self._clock()
        pause_s = _FIRST_PAUSE_S
        attempt = 0
        while True:
            attempt += 1
            self.check()
            index, asked_at = self._index, self._clock()
            try:
                answer = function(self._clients[index])
            except Unreachable as error:
                # A call that begins when others have waited in vain must not wait as long again.
                since = min(began_at, self._note_failure(asked_at))
                waited_s = self._clock() - since
                reason, bears_s = error, min(patience_s, error.patience_s)
            else:
                self._note_success()
                return answer
            self._reasons[index] = str(reason)
            self._move_on_from(index)
            if attempt < len(self._clients):  # none is given up that was not asked
                continue
            how_long = f"{bears_s:g} s (--rdzv-conf {setting}=...)"
            if waited_s >= bears_s:
                raise RendezvousConnectionError(
                    f"{self._name} could not be reached for {how_long}: {reason}"
                ) from reason
            self._tell("; ".join(self._reasons.values()), waited_s, how_long)
            if attempt % len(self._clients):
                continue
            (stop or self._ended).wait(min(pause_s, bears_s - waited_s))
            if stop is not None and stop.is_set():
                raise RendezvousClosedError(f"gave up reaching {self._name}")
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def end(self, reason: str) -> None:
        """Let every call from now on raise, with the first reason that was given."""
        with self._lock:
            self._end = self._end or reason
        self._ended.set()

    @property
    def has_ended(self) -> threading.Event:
        """Set once ``end`` was called."""
        return self._ended

    def check(self) -> None:
        """Do nothing, unless the end has come.

        Raises:
            RendezvousConnectionError: ``end`` was called.
        """
        if self._ended.is_set():
            raise RendezvousConnectionError(self._end)

    def _note_failure(self, asked_at: float) -> float:
        """Return when the first of the attempts since which nothing succeeded was begun."""
        with self._lock:
            if self._in_vain_since is None:
                self._in_vain_since = asked_at
            return self._in_vain_since

    def _note_success(self) -> None:
        with self._lock:
            self._in_vain_since = None
            told, self._announced = self._announced, None
            self._reasons = {}
        if told is not None:
            log.warning("%s is reached again", self._name)

    def _tell(self, why: str, waited_s: float, how_long: str) -> None:
        """Tell people that no server serves, as often as they have to know."""
        with self._lock:
            if not should_announce(why, waited_s, self._announced, first_s=self._tell_after_s):
                return
            self._announced = Announcement(why, waited_s)
        log.warning("%s is not reached: %s; it is tried for %s", self._name, why, how_long)

    def _move_on_from(self, index: int) -> None:
        with self._lock:
            if self._index == index:
                self._index = (index + 1) % len(self._clients)
        self._on_trouble()


class AnswerTime:
    """How long one server has for an answer: short, unless it is slow.

    A server that is gone must not hold up the question to the next one; one that is slow needs its
    time, or no question would ever be answered.

    Args:
        first_s: Seconds at first, and again after an answer within them.
    """

    def __init__(self, first_s: float) -> None:
        self._first_s = first_s
        self.seconds = first_s
        """How long the next answer may take."""

    def note(self, took_s: float, *, is_answered: bool) -> None:
        """Learn from a question: one that came to nothing after all its time doubles the next."""
        if is_answered and took_s < self._first_s:
            self.seconds = self._first_s
        elif not is_answered and took_s >= self.seconds:
            self.seconds = min(2 * self.seconds, max(self._first_s, _LONGEST_ANSWER_S))


class Refused(RendezvousConnectionError):  # noqa: N818  as above
    """A server answers, and does not do what it is asked to: no other attempt makes sense."""


def plain_reason(error: BaseException) -> str:
    """Return what lies below the wrappings of an HTTP library: the system's own words, if any."""
    seen: list[BaseException] = [error]
    for each in seen:  # grows meanwhile
        if isinstance(each, TimeoutError) or "Timeout" in type(each).__name__:
            return "it does not answer"
        if isinstance(each, OSError) and each.strerror:
            return each.strerror
        inner = (each.__cause__, each.__context__, getattr(each, "reason", None), *each.args)
        seen.extend(
            other
            for other in inner
            if isinstance(other, BaseException) and all(other is not known for known in seen)
        )
    return str(seen[-1]) or type(seen[-1]).__name__
