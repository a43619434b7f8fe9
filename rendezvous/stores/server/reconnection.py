"""Makes a client's connection to a store server anew, if it has broken or is dead.

A connection that breaks is made anew by a thread that lives as long as that takes; where the system
grants none, by the loop's, in short attempts. The client then repeats what was not answered, in the
same order and with the same numbers; the server does nothing twice (``sessions.py``).

A connection may also be dead without an end: TCP repeats what nothing acknowledges ever more
rarely, half a minute apart after a cut of half a minute, and in vain for ever if this host has got
another address. So while the server is silent, the kernel asks the other host whether it is there
(``Link.probe``). If that acknowledges nothing, a thread dials beside the connection, and what it
finds takes its place. The kernel of a server that stands still acknowledges.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ...light_typing import Protocol
from ...logs import Log
from ...protocol.timing import seconds_in_words
from ...threads import NoThreadError, start_daemon
from .calls import Calls
from .dial import Unreached
from .hello import Refusal
from .link import Link
from .reader import FAULT, Reader

log = Log(__name__)

CLOSED_BY_HOST = "its host has closed the connection"

_THREAD = "elrun-store-client"
_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 1.0
_DIAL_S = 5.0
# Beside a connection that is heard again: its answer may come late, or the server stands still.
_LAST_DIALS = 3
# Where the loop's own thread has to connect, as no other is granted.
_BRIEF_DIAL_S = 0.2
_LONGEST_BRIEF_DIAL_S = 2.0
_AWAY_PER_DIAL = 10
_BRIEF_DIALS_APART_S = 0.5
_CLOSES_EACH = "it takes each connection and closes it before it answers a request"

Redial = Callable[[float], Link | Refusal | Unreached]
"""Connects once more to the same server, with the same session.

The argument says how many seconds the host has to answer, and then the server.
"""


class Owner(Protocol):
    """The line whose connection it is."""

    is_over: threading.Event
    """Set once the connection is not made anew any more."""

    def take_out(self, link: Link) -> bool:
        """Close a connection; return False if another one has taken its place, or none."""

    def repeat_over(self, link: Link) -> bool:
        """Repeat what was not answered, in order; return whether the connection took it."""

    def lose(self, reason: str) -> None:
        """End all calls: there will be no answer any more."""


class Reconnection:
    """Makes one line's connection anew.

    Args:
        redial: How to come back to the server; None if there is no way.
        dial_s: How long connecting took, in seconds.
        endpoint: How people call the place.
        patience_s: After so many seconds without a connection, all calls end.
        notice_s: After so many, people are told.
    """

    def __init__(
        self,
        redial: Redial | None,
        dial_s: float,
        endpoint: str,
        patience_s: float,
        notice_s: float,
        owner: Owner,
        reader: Reader,
        calls: Calls,
    ) -> None:
        self.is_possible = redial is not None
        """Whether there is a way back; else nothing here is called that would take it."""
        self._redial = redial or _nowhere
        self.dial_s = dial_s
        """How long connecting took the last time, in seconds."""
        self._endpoint = endpoint
        self._patience_s = patience_s
        self._notice_s = notice_s
        self._owner = owner
        self._reader = reader
        self._calls = calls
        self.instead = ""
        """What answers in the server's place, while there is no connection."""
        self._closes = ""  # what the server does with connections that it has taken
        # When it broke, and the pause before the next attempt; a brief one without answer: neither.
        self._since, self._pause_s = time.monotonic(), 0.0
        self._dialling = threading.Lock()  # held by the thread that dials beside a connection

    # The loop's thread.

    def begin(self, broken: Link) -> None:
        """See to it that a broken connection is made anew."""
        broken.shut_down()  # first: a thread that sends over it lets go of its lock
        if not self._owner.take_out(broken):
            return
        if broken.was_of_use:
            self._since, self._pause_s, self._closes = time.monotonic(), 0.0, ""
        else:
            self._closes = f": {_CLOSES_EACH}"
            if self._is_lost_for_long(self._closes):
                return
        self._begin_to_come_back()

    def _begin_to_come_back(self) -> None:
        """Have a thread make the connection anew, or try that here, now and then."""
        if self._owner.is_over.is_set():
            return
        try:
            start_daemon(self._come_back, _THREAD)
        except NoThreadError:  # what else this thread has to do waits for short attempts
            self._reader.call_later(self._pause_s, self._come_back_here)

    def _come_back_here(self) -> None:
        """Try once in the loop's thread; the longer the host has been away, the longer it has."""
        away_s = time.monotonic() - self._since
        within_s = min(max(_BRIEF_DIAL_S, away_s / _AWAY_PER_DIAL), _LONGEST_BRIEF_DIAL_S)
        with self._lost_by_a_fault():
            if not self._dial(within_s):
                self._reader.call_later(_BRIEF_DIALS_APART_S, self._begin_to_come_back)

    # The thread that makes a broken connection anew.

    def _come_back(self) -> None:
        """Make the connection anew, or end all calls."""
        with self._lost_by_a_fault():
            while not self._owner.is_over.wait(self._pause_s):
                if self._dial(_DIAL_S):
                    return

    def _dial(self, within_s: float) -> bool:
        """Connect to the same server once more; return False if another attempt makes sense.

        Else the connection is there, or all calls have ended.

        Args:
            within_s: Seconds for each of the two parts of the attempt.
        """
        self._pause_s = _longer(self._pause_s)
        dials_at = time.monotonic()
        found = self._redial(within_s)
        self.instead = f": {found.reason}" if isinstance(found, Unreached) else self._closes
        self.dial_s = time.monotonic() - dials_at
        if isinstance(found, Link) and self._owner.repeat_over(found):
            log.info("the connection to %s broke, and was made anew", self._endpoint)
            return True
        if isinstance(found, Refusal):
            self._owner.lose(f"{CLOSED_BY_HOST}, and refuses another one: {found.reason}")
            return True
        if isinstance(found, Unreached) and found.is_vacant:
            self._owner.lose(CLOSED_BY_HOST)
            return True
        return self._is_lost_for_long(self.instead)

    def _is_lost_for_long(self, instead: str) -> bool:
        """Say so if there has been no connection for a while; after the patience, end all calls."""
        lasts_s = time.monotonic() - self._since
        if lasts_s >= self._notice_s:
            self._calls.report_silence(instead)
        if lasts_s < self._patience_s:
            return False
        patience = seconds_in_words(self._patience_s)
        self._owner.lose(f"its connection broke and was not made anew in {patience} s{instead}")
        return True

    # A thread that calls the store, and the thread that dials beside a connection.

    def dial_beside(self) -> None:
        """Have a thread look for a connection that arrives, if nothing over this one does."""
        link = self._reader.link
        is_dead = self.is_possible and link is not None and link.probe()
        if link is None or not is_dead or not self._dialling.acquire(blocking=False):
            return
        try:
            start_daemon(self._replace, _THREAD, link)
        except NoThreadError:
            self._dialling.release()

    def _replace(self, unheard: Link) -> None:
        """Dial until another connection takes the place of one, or that one has an answer."""
        pause_s, left = 0.0, _LAST_DIALS
        try:
            with self._lost_by_a_fault():
                while left and not self._owner.is_over.wait(pause_s):
                    if self._reader.link is not unheard or not self._calls.are_silent:
                        return
                    left -= not unheard.probe()
                    found = self._redial(_DIAL_S)
                    if isinstance(found, Link):
                        self._put_in_place_of(unheard, found)
                        return
                    pause_s = _longer(pause_s)
        finally:
            self._dialling.release()

    def _put_in_place_of(self, unheard: Link, found: Link) -> None:
        if not self._owner.take_out(unheard):  # it has broken, and is made anew
            found.close()
        elif self._owner.repeat_over(found):
            log.info("another connection to %s has replaced one that was dead", self._endpoint)
        else:
            self._since, self._pause_s = time.monotonic(), 0.0
            self._come_back()

    @contextmanager
    def _lost_by_a_fault(self) -> Iterator[None]:
        """End all calls by a fault in the body: they would wait without end."""
        try:
            yield
        except BaseException:
            self._owner.lose(FAULT)
            raise


def _nowhere(_: float) -> Refusal:
    return Refusal("", "there is no way back")


def _longer(pause_s: float) -> float:
    """Return the pause after the next attempt, by the one before it."""
    return min(max(_FIRST_PAUSE_S, 2 * pause_s), _LONGEST_PAUSE_S)
