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
from ...protocol.timing import limit_in_words

log = Log(__name__)

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5
_ANNOUNCE_AFTER_S = 2.0
_LONGEST_ANSWER_S = 4.0

_C = TypeVar("_C")
_T = TypeVar("_T")


class Unreachable(Exception):
    """A server can't serve now: another one may, or this one a moment later.

    Args:
        patience_s: The longest time for which another attempt makes sense.
    """

    def __init__(self, reason: str, patience_s: float = math.inf) -> None:
        super().__init__(reason)
        self.patience_s = patience_s


class Refused(RendezvousConnectionError):
    """A server answers, and refuses the request: no other attempt makes sense.

    Args:
        code: The server's number for the reason; 0 if it has given none.
    """

    def __init__(self, reason: str, code: int = 0) -> None:
        super().__init__(reason)
        self.code = code


class Failover(Generic[_C]):
    """Calls functions with the client of a server that serves.

    Each function must bear a second call: the answer to the first one may be lost.

    Args:
        patience_s: For how long a call is tried. While no server serves, all calls share this time.
            Each call asks every server at least once.
        on_trouble: Called, from any thread, whenever a server did not serve.
        announce_after_s: After how long the first warning says that no server serves.
    """

    def __init__(
        self,
        name: str,
        clients: Sequence[_C],
        patience_s: float,
        on_trouble: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        announce_after_s: float = _ANNOUNCE_AFTER_S,
    ) -> None:
        self._name = name
        self._clients = clients
        self._patience_s = patience_s
        self._on_trouble = on_trouble
        self._clock = clock
        self._announce_after_s = announce_after_s
        self.has_ended = threading.Event()
        """Set once ``end`` was called."""
        # What follows is written under the lock, by any thread.
        self._lock = threading.Lock()
        self.index = 0
        """Which of the servers is asked at present."""
        self.answered_at = -math.inf
        """When a server served last."""
        self._in_vain_since: float | None = None
        self._errors: dict[int, Unreachable] = {}
        self._announced: Announcement | None = None
        self.end_reason = ""
        """The reason that ``end`` was given first."""

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
            patience_s: For how long it is tried; by default the constructor's.
            setting: Name of the setting of this time, for people.

        Raises:
            RendezvousConnectionError: No server served in time, or ``end`` was called.
        """
        patience_s = self._patience_s if patience_s is None else patience_s
        began_at = self._clock()
        pause_s = _FIRST_PAUSE_S
        attempt = 0
        while True:
            attempt += 1
            self.check()
            index, asked_at = self.index, self._clock()
            try:
                answer = function(self._clients[index])
            except Unreachable as error:
                # If earlier calls have waited in vain, this one must not wait as long again.
                waited_s = self._clock() - min(began_at, self._note_failure(asked_at))
                self._move_on_from(index, error)
                reason = error
            else:
                self._note_success()
                return answer
            if attempt < len(self._clients):  # each server is asked before a call gives up
                continue
            left_s = self._time_left(reason, waited_s, patience_s, setting)
            if attempt % len(self._clients):
                continue
            (stop or self.has_ended).wait(min(pause_s, left_s))
            if stop is not None and stop.is_set():
                raise RendezvousClosedError(f"gave up reaching {self._name}")
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def end(self, reason: str) -> None:
        """Let every call from now on raise, with the first reason that was given."""
        with self._lock:
            self.end_reason = self.end_reason or reason
        self.has_ended.set()

    def check(self) -> None:
        """Do nothing before the end.

        Raises:
            RendezvousConnectionError: ``end`` was called.
        """
        if self.has_ended.is_set():
            raise RendezvousConnectionError(self.end_reason)

    def _note_failure(self, asked_at: float) -> float:
        """Return when the first of the attempts since which nothing succeeded was begun."""
        with self._lock:
            if self._in_vain_since is None:
                self._in_vain_since = asked_at
            return self._in_vain_since

    def _note_success(self) -> None:
        with self._lock:
            self.answered_at = self._clock()
            self._in_vain_since = None
            announced, self._announced = self._announced, None
            self._errors = {}
        if announced is not None:
            log.warning("%s is reached again", self._name)

    def _time_left(
        self, reason: Unreachable, waited_s: float, patience_s: float, setting: str
    ) -> float:
        """Return for how long a call that has failed is still tried.

        Raises:
            RendezvousConnectionError: No longer.
        """
        with self._lock:
            errors = list(self._errors.values()) or [reason]
        bears_s = max(error.patience_s for error in errors)
        how_long = f"{limit_in_words(min(bears_s, patience_s))} (--rdzv-conf {setting}=...)"
        if waited_s >= min(bears_s, patience_s):
            how = f"could not be reached {how_long}" if bears_s > patience_s else "fails"
            raise RendezvousConnectionError(f"{self._name} {how}: {reason}") from reason
        self._announce("; ".join(map(str, errors)), waited_s, how_long)
        return min(bears_s, patience_s) - waited_s

    def _announce(self, why: str, waited_s: float, how_long: str) -> None:
        """Warn that no server serves, now and then."""
        with self._lock:
            last = self._announced
            if not should_announce(why, waited_s, last, first_s=self._announce_after_s):
                return
            self._announced = Announcement(why, waited_s)
        state = (
            "is not reached" if last is None else f"is still not reached, after {waited_s:.0f} s"
        )
        log.warning("%s %s: %s; it is tried %s", self._name, state, why, how_long)

    def _move_on_from(self, index: int, error: Unreachable) -> None:
        with self._lock:
            self._errors[index] = error
            if self.index == index:
                self.index = (index + 1) % len(self._clients)
        self._on_trouble()


class AnswerTime:
    """How long one server has for an answer: short, unless it is slow.

    A server that is gone must not delay the request to the next one. A slow server needs its time,
    or no request would ever be answered.

    Args:
        first_s: Seconds at first, and again after an answer within them.
    """

    def __init__(self, first_s: float) -> None:
        self._first_s = first_s
        self.seconds = first_s
        """How long the next answer may take."""

    def note(self, took_s: float, *, is_answered: bool) -> None:
        """Record a request; one that had no answer in all its time doubles the time of the next."""
        if is_answered and took_s < self._first_s:
            self.seconds = self._first_s
        elif not is_answered and took_s >= self.seconds:
            self.seconds = min(2 * self.seconds, max(self._first_s, _LONGEST_ANSWER_S))


def plain_reason(error: BaseException) -> str:
    """Return the system's own words for an error, which an HTTP library may have wrapped."""
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
