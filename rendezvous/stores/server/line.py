"""One client's connection to a store server: requests go out, and their answers come back.

All calls, and any number of waits, go over the one connection: each has a number, and the thread of
a loop (``loop.py``) reads and hands every answer to the call that waits for it. If no loop was
given before the first request, the line has a loop of its own. A server that does not answer for
long is lost, as TCP bears silence for a quarter of an hour.

A connection that breaks is made anew, if there is a way to do so, by a thread that lives as long as
that takes; where the system grants none, by the loop's, in short attempts. The client then repeats
what was not answered, in the same order and with the same numbers; the server does nothing twice
(``sessions.py``).

A connection may also be dead without an end: TCP repeats what nothing acknowledges ever more
rarely, half a minute apart after a cut of half a minute, and in vain for ever if this host has got
another address. So while the server is silent, the kernel asks the other host whether it is there
(``Link.probe``). If that acknowledges nothing, a thread dials beside the connection, and what it
finds takes its place. The kernel of a server that stands still acknowledges.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable

from ...errors import RendezvousConnectionError
from ...logs import Log
from ...protocol.timing import RECONNECT_PATIENCE_S, STORE_PATIENCE_S
from ...threads import NoThreadError, start_daemon
from ..loop import Loop
from ..store import Told, Will
from .calls import Call, Calls, copy_of
from .dial import Unreached
from .hello import Refusal
from .link import Link
from .reader import FAULT, Reader
from .wire import MAX_AFTER_MS, Bye, Forget, LeaveWill, Request, write_request

log = Log(__name__)

_THREAD = "elrun-store-client"
_CLOSING_S = 1.0
# A time-out is cut into slices: if this process was stopped meanwhile, only one has passed.
_LEAST_SLICES = 8
_LONGEST_SLICE_S = 2.5
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
# A host that is overloaded connects late: what connecting took last tells how late.
_GRACE_PER_DIAL = 10
_MOST_ADDED_S = 2.0
_CLOSED_BY_HOST = "its host has closed the connection"
_CLOSES_EACH = "it takes each connection and closes it before it answers a request"

Redial = Callable[[float], Link | Refusal | Unreached]
"""Connects once more to the same server, with the same session.

The argument says how many seconds the host has to answer, and then the server.
"""


class Line:
    """The connection of one client.

    Args:
        link: The server has let this client in there.
        endpoint: How people call the place.
        patience_s: How long the server may leave a request without an answer.
        redial: How to come back to the server if the connection breaks; None if there is no way.
        grace_s: For how long this client may stay away, if the connection breaks, before its will
            is carried out; ten times as long as connecting takes if that is longer.
        dial_s: How long connecting took, in seconds.
    """

    def __init__(
        self,
        link: Link,
        endpoint: str,
        patience_s: float = STORE_PATIENCE_S,
        redial: Redial | None = None,
        grace_s: float = RECONNECT_PATIENCE_S,
        dial_s: float = 0.0,
    ) -> None:
        self._endpoint = endpoint
        self._patience_s = patience_s
        self._notice_s = min(_LONGEST_SLICE_S, patience_s / 2)
        self._redial = redial
        self._grace_s = grace_s
        self._dial_s = dial_s
        self._numbers = itertools.count(1)
        # Requests are numbered and sent under this lock, so that the server gets them in order; the
        # thread that holds it may replace the connection, or close it.
        self._sending = threading.Lock()
        self._instead = ""  # what answers in the server's place, while there is no connection
        self._closes = ""  # what it does with connections that it has taken
        # When it broke, and the pause before the next attempt; a brief one without answer: neither.
        self._since, self._pause_s = time.monotonic(), 0.0
        self._will: LeaveWill | None = None
        link.begin(patience_s)
        self._calls = Calls(endpoint, patience_s)
        self._reader = Reader(link, self._calls.take, self._leave, self._give_up)
        self._dialling = threading.Lock()  # held by the thread that dials beside a connection
        self._is_over = threading.Event()

    def read_by(self, loop: Loop) -> None:
        """Have a loop read the answers; there was no request yet.

        Raises:
            OSError: The kernel watches no more.
        """
        with self._sending:
            self._reader.begin(loop)

    def begin(self, *requests: Request, hear: Callable[[Told], None] | None = None) -> list[Call]:
        """Send requests in one go; return the calls that will have their answers.

        Raises:
            RendezvousConnectionError: The server was lost.
            OSError: The line needs a thread of its own, and the system grants none.
            ValueError: A request is larger than the server takes.
        """
        with self._sending:
            self._reader.begin()
            calls = [Call(next(self._numbers), request, hear) for request in requests]
            frames = [write_request(call.number, call.request) for call in calls]
            self._calls.add(calls)
            self._send(*frames)
        return calls

    def await_answer(self, call: Call) -> Call:
        """Return a call that is answered at once, when it is.

        Raises:
            RendezvousConnectionError: The server was lost, or refuses the request.
        """
        slice_s = min(_LONGEST_SLICE_S, self._patience_s / _LEAST_SLICES)
        for elapsed in range(math.ceil(self._patience_s / slice_s) if slice_s else 0):
            if elapsed * slice_s >= self._notice_s:
                self._calls.report_silence(self._instead)
                self._dial_beside()
            if self.await_end(call, slice_s):
                break
        else:
            self._lose(
                f"it has not answered for {self._patience_s:g} s (--rdzv-conf store_patience=...)"
                f"{self._instead}"
            )
            call.await_end()
        if call.error is not None:
            raise copy_of(call.error)
        return call

    def await_end(self, call: Call, timeout_s: float | None) -> bool:
        return self._reader.await_end(call, timeout_s)

    def take_back(self, call: Call) -> bool:
        """Wait for no answer any more; return False if the answer is there already."""
        if not self._calls.take_back(call):
            return False
        with self._sending:
            self._send(write_request(next(self._numbers), Forget(call.number)))
        return True

    def leave_will(self, will: Will) -> None:
        """Say what the server writes once this client is gone, together with the next request.

        If no request follows, the kernel sends it after some 200 ms; elrun's callers ask at once.
        """
        with self._sending:
            self._reader.begin()
            after_ms = _grace_ms(self._grace_s, self._dial_s) if self._redial is not None else 0
            self._will = LeaveWill(will, after_ms)
            self._send(write_request(next(self._numbers), self._will), has_more=True)

    def close(self) -> None:
        """Let go of the connection; calls that wait for an answer end with an error."""
        self._say_bye()
        self._end(RendezvousConnectionError(f"the connection to {self._endpoint} was closed"))
        self._release()
        self._reader.end()

    def _send(self, *frames: bytes, has_more: bool = False) -> None:
        """Send frames; if the connection is broken, they are repeated over the next one."""
        link = self._reader.link
        if link is None:
            return
        try:
            link.send(*frames, has_more=has_more)
        except BlockingIOError:  # SO_SNDTIMEO's way to say so; a part of it may have gone
            self._lose(f"it has taken nothing for {self._patience_s:g} s")
        except OSError:
            link.shut_down()  # the loop finds its end

    def _say_bye(self) -> None:
        """Tell the server that this client leaves on purpose, if that takes no time."""
        if not self._sending.acquire(blocking=False):
            return
        try:
            if self._reader.link is not None:
                self._reader.link.send_if_possible(write_request(next(self._numbers), Bye()))
        finally:
            self._sending.release()

    def _release(self) -> None:
        """Close a connection that was shut down, as soon as no thread uses it any more."""
        if not self._sending.acquire(timeout=_CLOSING_S):
            return
        try:
            self._reader.release()
        finally:
            self._sending.release()

    # The loop's thread.

    def _leave(self, broken: Link) -> None:
        """See to it that a broken connection is made anew, if it can be."""
        if self._redial is None or self._is_over.is_set():
            self._give_up(_CLOSED_BY_HOST)
            return
        broken.shut_down()  # first: a thread that sends over it lets go of the lock
        with self._sending:
            if self._reader.link is not broken:  # another one has taken its place
                return
            self._reader.replace(None)
            broken.close()
        if broken.was_of_use:
            self._since, self._pause_s, self._closes = time.monotonic(), 0.0, ""
        else:
            self._closes = f": {_CLOSES_EACH}"
            if self._is_lost_for_long(self._closes):
                return
        self._begin_to_come_back()

    def _begin_to_come_back(self) -> None:
        """Have a thread make the connection anew, or try that here, now and then."""
        if self._is_over.is_set():
            return
        try:
            start_daemon(self._come_back, _THREAD)
        except NoThreadError:  # what else this thread has to do waits for short attempts
            self._reader.call_later(self._pause_s, self._come_back_here)

    def _come_back_here(self) -> None:
        """Try once in the loop's thread; the longer the host has been away, the longer it has."""
        away_s = time.monotonic() - self._since
        within_s = min(max(_BRIEF_DIAL_S, away_s / _AWAY_PER_DIAL), _LONGEST_BRIEF_DIAL_S)
        if not self._dial_once(within_s):
            self._reader.call_later(_BRIEF_DIALS_APART_S, self._begin_to_come_back)

    def _give_up(self, reason: str) -> None:
        """End all calls: there will be no answer any more."""
        self._lose(reason)
        self._release()

    # The thread that makes a broken connection anew.

    def _come_back(self) -> None:
        """Make the connection anew, or end all calls."""
        while not self._is_over.wait(self._pause_s):
            if self._dial_once(_DIAL_S):
                return

    def _dial_once(self, within_s: float) -> bool:
        """Try once more, as ``_dial`` does; a fault of that ends all calls, which would wait on."""
        self._pause_s = min(max(_FIRST_PAUSE_S, 2 * self._pause_s), _LONGEST_PAUSE_S)
        try:
            return self._dial(within_s)
        except BaseException:  # a caller would wait without end
            self._lose(FAULT)
            raise

    def _dial(self, within_s: float) -> bool:
        """Connect to the same server once more; return False if another attempt makes sense.

        Else the connection is there, or all calls have ended.

        Args:
            within_s: Seconds for each of the two parts of the attempt.
        """
        if self._redial is None:
            return True
        dials_at = time.monotonic()
        found = self._redial(within_s)
        self._instead = f": {found.reason}" if isinstance(found, Unreached) else self._closes
        self._dial_s = time.monotonic() - dials_at
        if isinstance(found, Link) and self._repeat_over(found):
            log.info("the connection to %s broke, and was made anew", self._endpoint)
            return True
        if isinstance(found, Refusal):
            self._lose(f"{_CLOSED_BY_HOST}, and refuses another one: {found.reason}")
            return True
        if isinstance(found, Unreached) and found.is_vacant:
            self._lose(_CLOSED_BY_HOST)
            return True
        return self._is_lost_for_long(self._instead)

    def _is_lost_for_long(self, instead: str) -> bool:
        """Say so if there has been no connection for a while; after the patience, end all calls."""
        lasts_s = time.monotonic() - self._since
        if lasts_s >= self._notice_s:
            self._calls.report_silence(instead)
        if lasts_s < self._patience_s:
            return False
        self._lose(f"its connection broke and was not made anew in {self._patience_s:g} s{instead}")
        return True

    def _dial_beside(self) -> None:
        """Have a thread look for a connection that arrives, if nothing over this one does."""
        link = self._reader.link
        is_dead = self._redial is not None and link is not None and link.probe()
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
            while left and not self._is_over.wait(pause_s):
                if self._reader.link is not unheard or not self._calls.are_silent:
                    return
                left -= not unheard.probe()
                found = None if self._redial is None else self._redial(_DIAL_S)
                if isinstance(found, Link):
                    self._put_in_place_of(unheard, found)
                    return
                pause_s = min(max(_FIRST_PAUSE_S, 2 * pause_s), _LONGEST_PAUSE_S)
        finally:
            self._dialling.release()

    def _put_in_place_of(self, unheard: Link, found: Link) -> None:
        with self._sending:
            is_in_place = self._reader.link is unheard
            if is_in_place:
                self._reader.release()
        if not is_in_place:  # it has broken, and is made anew
            found.close()
        elif self._repeat_over(found):
            log.info("another connection to %s has replaced one that was dead", self._endpoint)
        else:
            self._since, self._pause_s = time.monotonic(), 0.0
            self._come_back()

    def _repeat_over(self, link: Link) -> bool:
        """Repeat what was not answered, in order; return whether the connection took it."""
        with self._sending:
            calls = self._calls.in_order()
            for call in calls:
                call.begin_anew()
            try:
                link.begin(self._patience_s)
                if self._will is not None:
                    after_ms = _grace_ms(self._grace_s, self._dial_s)
                    self._will = self._will._replace(after_ms=after_ms)
                    link.send(write_request(next(self._numbers), self._will))
                for call in calls:
                    link.send(write_request(call.number, call.request))
                self._reader.replace(link)
                if self._is_over.is_set():  # by a thread that found no connection to shut down
                    raise ConnectionAbortedError
            except OSError:
                self._reader.release()
                link.close()
                return False
        return True

    def _lose(self, reason: str) -> None:
        self._end(
            RendezvousConnectionError(
                f"the rendezvous store at {self._endpoint} was lost: {reason}"
            )
        )

    def _end(self, error: RendezvousConnectionError) -> None:
        self._is_over.set()  # first: whoever replaces the connection looks here afterwards
        calls, error = self._calls.take_all(error)
        link = self._reader.link
        if link is not None:
            link.shut_down()
        for call in calls:
            call.end(error)
        self._reader.wake()


def _grace_ms(least_s: float, dial_s: float) -> int:
    """Return for how long a client may stay away, if connecting took ``dial_s`` the last time."""
    needed_s = min(_GRACE_PER_DIAL * dial_s, _MOST_ADDED_S)
    return int(min(1000 * max(least_s, needed_s), MAX_AFTER_MS))
