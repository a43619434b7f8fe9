"""Logs the state of a wait for other nodes, ever more rarely; shows it on a terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from ...rendezvous.errors import RendezvousError
from ...rendezvous.logs import Log
from ...rendezvous.protocol.announcements import Announcement, next_check_s, should_announce
from ...rendezvous.protocol.timing import LONGEST_S, seconds_in_words
from ...rendezvous.threads import Call, NoThreadError

log = Log(__name__)

QUIET_S = 5.0
_LIVE_EACH_S = 1.0
_EXIT_CODE = 75  # of elrun, where nodes could not meet


class LongWait:
    """One wait, whose state is logged.

    Args:
        describe: Returns the wait's state; it may take long, and raise RendezvousError.
        limit_s: Returns how long the wait may take; None: there is no limit now.
        wake: Called, from any thread, when it is time for a further ``turn``.
        first_s: After how many seconds the first line is due.
        live: Where the state is shown from the first second on; then nothing is logged.
    """

    def __init__(
        self,
        run_id: str,
        describe: Callable[[], str],
        limit_s: Callable[[], float | None],
        wake: Callable[[], None],
        first_s: float = QUIET_S,
        clock: Callable[[], float] = time.monotonic,
        live: Callable[[str], None] | None = None,
    ) -> None:
        self._run_id = run_id
        self._describe = describe
        self._limit_s = limit_s
        self._limited_from_s: float | None = 0.0
        self._wake = wake
        self._first_s = first_s if live is None else _LIVE_EACH_S
        self._live = live
        self._clock = clock
        self._began_at = clock()
        self._due_s = self._first_s
        self._announced: Announcement | None = None
        self._question: Call[str] | None = None

    def turn(self) -> float | None:
        """Ask for the state if that is due, and log the answer to the last question.

        Returns:
            Seconds until the next turn is due; None: once ``wake`` was called.
        """
        waited_s = self._clock() - self._began_at
        if self._question is not None and self._question.is_done:
            self._tell(self._question, waited_s)
            self._question = None
        if self._question is None and waited_s >= self._due_s:
            self._due_s = (
                next_check_s(waited_s, first_s=self._first_s)
                if self._live is None
                else waited_s + _LIVE_EACH_S
            )
            with contextlib.suppress(NoThreadError):  # the next turn asks again
                self._question = Call(self._describe, "elrun-rendezvous", self._wake, or_here=False)
        return None if self._question is not None else max(0.0, self._due_s - waited_s)

    def close(self) -> None:
        """Take the state from the terminal: the wait is over."""
        if self._live is not None:
            self._live("")

    def _tell(self, question: Call[str], waited_s: float) -> None:
        try:
            what = question.result()
        except RendezvousError:  # the wait itself ends with the error
            return
        end = self._end_of_wait(waited_s)
        if self._live is not None:
            if what:
                self._live(f"{what}{end}")
            return
        if should_announce(what, waited_s, self._announced, first_s=self._first_s):
            self._announced = Announcement(what, waited_s)
            log.warning("waiting in run %r: %s%s", self._run_id, what, end)

    def _end_of_wait(self, waited_s: float) -> str:
        """Return when the wait ends in vain, and how elrun does then."""
        limit_s = self._limit_s()
        if limit_s is None:  # a spare's time begins when a round forms that it may take part in
            self._limited_from_s = None
            return ""
        if limit_s >= LONGEST_S:
            return ""
        if self._limited_from_s is None:
            self._limited_from_s = waited_s
        left_s = max(0.0, self._limited_from_s + limit_s - waited_s)
        return (
            f"; this node gives up in {left_s:.0f} s, with exit code {_EXIT_CODE} "
            f"(--rdzv-conf join_timeout={seconds_in_words(limit_s)})"
        )
