"""One client's connection to a store server: requests go out, and their answers come back.

All calls, and any number of waits, go over the one connection: each has a number, and a thread that
reads hands every answer to the call that waits for it. A server that does not answer for long is
lost, as TCP bears silence for a quarter of an hour.

A connection that breaks is made anew, if there is a way to do so. The client then repeats what was
not answered, in the same order and with the same numbers; the server does nothing twice
(``sessions.py``).
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable

from ...errors import RendezvousConnectionError, RendezvousRoundOverError
from ...logs import Log
from ...protocol.timing import RECONNECT_PATIENCE_S, STORE_PATIENCE_S
from ...threads import start_thread
from ..notify import Told
from ..store import Will
from .calls import Call
from .dial import Unreached
from .frames import WireError
from .hello import Refusal
from .link import Link
from .wire import MAX_AFTER_MS, Answer, Bye, Forget, LeaveWill, Request, read_answer, write_request

log = Log(__name__)

_CLOSING_S = 1.0
# A time-out is cut into slices: if this process was stopped meanwhile, only one has passed.
_LEAST_SLICES = 8
_LONGEST_SLICE_S = 2.5
_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 1.0
# A host that is overloaded connects late: what connecting took last tells how late.
_GRACE_PER_DIAL = 10
_MOST_ADDED_S = 2.0
_SILENCE = (
    "the rendezvous store at %s does not answer%s; it is waited for up to %g s "
    "(--rdzv-conf store_patience=...)"
)
_CLOSED_BY_HOST = "its host has closed the connection"

Redial = Callable[[], Link | Refusal | Unreached]
"""Connects once more to the same server, with the same session."""


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

    Raises:
        NoThreadError: The system grants no thread; the connection is closed.
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
        # thread that holds it may replace the connection.
        self._sending = threading.Lock()
        self._instead = ""  # what answers in the server's place, while there is no connection
        self._will: LeaveWill | None = None
        link.begin(patience_s)
        self._link: Link | None = link
        # What follows is written under the lock.
        self._lock = threading.Lock()
        self._pending: dict[int, Call] = {}
        self._ended: RendezvousConnectionError | None = None
        self._is_silent = False
        self._is_over = threading.Event()
        reader = threading.Thread(
            target=self._run, args=(link,), name="elrun-store-client", daemon=True
        )
        try:
            self._reader = start_thread(reader)
        except OSError:
            link.close()
            raise

    def begin(self, *requests: Request, hear: Callable[[Told], None] | None = None) -> list[Call]:
        """Send requests in one go; return the calls that will have their answers.

        Raises:
            RendezvousConnectionError: The server was lost.
        """
        with self._sending:
            calls = [Call(next(self._numbers), request, hear) for request in requests]
            with self._lock:
                if self._ended is not None:
                    raise copy_of(self._ended)
                self._pending.update((call.number, call) for call in calls)
            self._send(*(write_request(call.number, call.request) for call in calls))
        return calls

    def await_answer(self, call: Call) -> Call:
        """Return a call that is answered at once, when it is.

        Raises:
            RendezvousConnectionError: The server was lost, or refuses the request.
        """
        slice_s = min(_LONGEST_SLICE_S, self._patience_s / _LEAST_SLICES)
        for elapsed in range(math.ceil(self._patience_s / slice_s) if slice_s else 0):
            if elapsed * slice_s >= self._notice_s:
                self._report_silence()
            if call.await_end(slice_s):
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

    def take_back(self, call: Call) -> bool:
        """Wait for no answer any more; return False if the answer is there already."""
        with self._lock:
            if self._pending.pop(call.number, None) is None:
                return False
        with self._sending:
            self._send(write_request(next(self._numbers), Forget(call.number)))
        return True

    def leave_will(self, will: Will) -> None:
        """Say what the server writes once this client is gone."""
        with self._sending:
            after_ms = _grace_ms(self._grace_s, self._dial_s) if self._redial is not None else 0
            self._will = LeaveWill(will, after_ms)
            self._send(write_request(next(self._numbers), self._will))

    def close(self) -> None:
        """Let go of the connection; calls that wait for an answer end with an error."""
        self._say_bye()
        self._end(RendezvousConnectionError(f"the connection to {self._endpoint} was closed"))
        if self._reader is not threading.current_thread():
            self._reader.join(_CLOSING_S)

    def _send(self, *frames: bytes) -> None:
        """Send frames, or leave it to the reader to repeat them if the connection is broken."""
        link = self._link
        if link is None:
            return
        try:
            link.send(*frames)
        except BlockingIOError:  # SO_SNDTIMEO's way to say so; a part of it may have gone
            self._lose(f"it has taken nothing for {self._patience_s:g} s")
        except OSError:
            link.shut_down()  # wakes the reader

    def _say_bye(self) -> None:
        """Tell the server that this client leaves on purpose, if that takes no time."""
        if not self._sending.acquire(blocking=False):
            return
        try:
            if self._link is not None:
                self._link.send_if_possible(write_request(next(self._numbers), Bye()))
        finally:
            self._sending.release()

    # The reader's thread.

    def _run(self, link: Link) -> None:
        current: Link | None = link
        reason = "a fault in its reader"
        try:
            while current is not None:
                for message in current.messages():
                    self._take(read_answer(message))
                current, reason = self._come_back(current, _CLOSED_BY_HOST)
        except WireError as error:
            reason = f"what it sends is not understood: {error}"
        finally:  # whatever ended the reader, no call waits for it any more
            self._lose(reason)
            with self._sending:  # lest another thread sends to what its number is by then
                if self._link is not None:
                    self._link.close()
                    self._link = None

    def _take(self, answer: Answer) -> None:
        with self._lock:
            was_silent, self._is_silent = self._is_silent, False
            call = self._pending.get(answer.number)
            if call is not None and not answer.has_more:
                del self._pending[answer.number]
        if was_silent:
            log.warning("the rendezvous store at %s answers again", self._endpoint)
        if call is None:  # a wait that was taken back
            return
        call.take(answer)
        if not answer.has_more:
            call.end(
                (RendezvousRoundOverError if answer.is_over else RendezvousConnectionError)(
                    f"the rendezvous store at {self._endpoint} refused a request: {answer.error}"
                )
                if answer.error
                else None
            )

    def _come_back(self, broken: Link, reason: str) -> tuple[Link | None, str]:
        """Return a new connection to the same server, or why there is none."""
        with self._sending:
            self._link = None
            broken.close()
        began_at, pause_s = time.monotonic(), 0.0
        while self._redial is not None and not self._is_over.wait(pause_s):
            dials_at = time.monotonic()
            found = self._redial()
            self._instead = f": {found.reason}" if isinstance(found, Unreached) else ""
            self._dial_s = time.monotonic() - dials_at
            if isinstance(found, Link) and self._repeat_over(found):
                log.info("the connection to %s broke, and was made anew", self._endpoint)
                return found, reason
            if isinstance(found, Refusal) or (isinstance(found, Unreached) and found.is_vacant):
                return None, reason
            lasts_s = time.monotonic() - began_at
            if lasts_s >= self._notice_s:
                self._report_silence()
            if lasts_s >= self._patience_s:
                after = f"was not made anew in {self._patience_s:g} s{self._instead}"
                return None, f"its connection broke and {after}"
            pause_s = min(max(_FIRST_PAUSE_S, 2 * pause_s), _LONGEST_PAUSE_S)
        return None, reason

    def _repeat_over(self, link: Link) -> bool:
        """Repeat what was not answered, in order; return whether the connection took it."""
        with self._sending:
            with self._lock:
                calls = sorted(self._pending.values(), key=lambda call: call.number)
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
            except OSError:
                link.close()
                return False
            self._link = link
            is_over = self._is_over.is_set()
        if is_over:  # closed meanwhile, by a thread that found no connection to shut down
            link.shut_down()
        return True

    def _report_silence(self) -> None:
        with self._lock:
            if self._is_silent or self._ended is not None:
                return
            self._is_silent = True
        log.warning(_SILENCE, self._endpoint, self._instead, self._patience_s)

    def _lose(self, reason: str) -> None:
        self._end(
            RendezvousConnectionError(
                f"the rendezvous store at {self._endpoint} was lost: {reason}"
            )
        )

    def _end(self, error: RendezvousConnectionError) -> None:
        with self._lock:
            self._ended = self._ended or error
            calls, self._pending = list(self._pending.values()), {}
            error = self._ended
            link = self._link
        self._is_over.set()
        if link is not None:
            link.shut_down()
        for call in calls:
            call.end(error)


def _grace_ms(least_s: float, dial_s: float) -> int:
    """Return for how long a client may stay away, if connecting took ``dial_s`` the last time."""
    needed_s = min(_GRACE_PER_DIAL * dial_s, _MOST_ADDED_S)
    return int(min(1000 * max(least_s, needed_s), MAX_AFTER_MS))


def copy_of(error: RendezvousConnectionError) -> RendezvousConnectionError:
    """Return an error to be raised: one that was raised before has a traceback already."""
    return type(error)(str(error))
