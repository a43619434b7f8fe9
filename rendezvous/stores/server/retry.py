"""The pauses between attempts to reach a store, and the log lines meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ...errors import RendezvousClosedError
from ...logs import Log
from ...protocol.announcements import Announcement, should_announce
from ...protocol.timing import limit_in_words
from ..store import limit_of

log = Log(__name__)

NOTICE_S = 5.0

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0


class Retry:
    """Attempts that go on for a while, at ever longer intervals.

    Args:
        stop: Ends the attempts.
        place: Where they lead, for people.
        state: The beginning of the log line, as ``the rendezvous is not there``.
    """

    def __init__(
        self,
        stop: threading.Event,
        timeout_s: float,
        place: str,
        state: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stop = stop
        self._timeout_s, self._setting = limit_of(stop, timeout_s)
        self._place = place
        self._state = state
        self._clock = clock
        self._began_at = clock()
        self._pause_s = _FIRST_PAUSE_S
        self._announced: Announcement | None = None

    @property
    def waited_s(self) -> float:
        """For how long the attempts have gone on."""
        return self._clock() - self._began_at

    @property
    def left_s(self) -> float:
        """For how long they will go on."""
        return self._timeout_s - self.waited_s

    def pause(self, reason: str, notice_s: float = NOTICE_S) -> bool:
        """Wait before the next attempt; return False at once if there is no time for one.

        Args:
            reason: Why the last attempt failed; it is logged when it lasts or changes.
            notice_s: Seconds of waiting that are not logged.

        Raises:
            RendezvousClosedError: ``stop`` was set.
        """
        waited_s = self.waited_s
        if waited_s >= self._timeout_s:
            return False
        if should_announce(reason, waited_s, self._announced, first_s=notice_s):
            self._announced = Announcement(reason, waited_s)
            log.warning(
                "%s yet: %s; it is tried %s (--rdzv-conf %s=...)",
                self._state,
                reason,
                limit_in_words(self._timeout_s),
                self._setting,
            )
        if self._stop.wait(min(self._pause_s, self._timeout_s - waited_s)):
            raise RendezvousClosedError(f"gave up reaching {self._place}")
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        return True
