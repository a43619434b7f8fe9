"""One client's connection to a store server: requests go out, and their answers come back.

All calls, and any number of waits, go over the one connection: each has a number, and the thread of
a loop (``loop.py``) reads and hands every answer to the call that waits for it. If no loop was
given before the first request, the line has a loop of its own. A server that does not answer for
long is lost, as TCP bears silence for a quarter of an hour. A connection that breaks, or is dead,
is made anew where there is a way to do so (``reconnection.py``).
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable

from ...errors import RendezvousConnectionError
from ...protocol.timing import RECONNECT_PATIENCE_S, STORE_PATIENCE_S, seconds_in_words
from ..loop import Loop
from ..store import Told, Will
from .calls import Call, Calls, copy_of
from .link import Link
from .reader import Reader
from .reconnection import CLOSED_BY_HOST, Reconnection, Redial
from .wire import MAX_AFTER_MS, Bye, Forget, LeaveWill, Request, write_request

_CLOSING_S = 1.0
# A time-out is cut into slices: if this process was stopped meanwhile, only one has passed.
_LEAST_SLICES = 8
_LONGEST_SLICE_S = 2.5
# A host that is overloaded connects late: what connecting took last tells how late.
_GRACE_PER_DIAL = 10
_MOST_ADDED_S = 2.0


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
        self._grace_s = grace_s
        self._numbers = itertools.count(1)
        # Requests are numbered and sent under this lock, so that the server gets them in order; the
        # thread that holds it may replace the connection, or close it.
        self._sending = threading.Lock()
        self._will: LeaveWill | None = None
        link.begin(patience_s)
        self._calls = Calls(endpoint, patience_s)
        self._reader = Reader(link, self._calls.take, self._leave, self._give_up)
        self.is_over = threading.Event()
        """Set once the connection is not made anew any more."""
        self._reconnection = Reconnection(
            redial, dial_s, endpoint, patience_s, self._notice_s, self, self._reader, self._calls
        )

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
                self._calls.report_silence(self._reconnection.instead)
                self._reconnection.dial_beside()
            if self.await_end(call, slice_s):
                break
        else:
            self.lose(
                f"it has not answered for {seconds_in_words(self._patience_s)} s "
                f"(--rdzv-conf store_patience=...){self._reconnection.instead}"
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
            self._will = LeaveWill(will, self._grace_ms())
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
            self.lose(f"it has taken nothing for {seconds_in_words(self._patience_s)} s")
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
        if not self._reconnection.is_possible or self.is_over.is_set():
            self._give_up(CLOSED_BY_HOST)
        else:
            self._reconnection.begin(broken)

    def _give_up(self, reason: str) -> None:
        """End all calls: there will be no answer any more."""
        self.lose(reason)
        self._release()

    # Of ``Owner``, for what makes the connection anew.

    def take_out(self, link: Link) -> bool:
        with self._sending:
            is_in_place = self._reader.link is link
            if is_in_place:
                self._reader.release()
        return is_in_place

    def repeat_over(self, link: Link) -> bool:
        with self._sending:
            calls = self._calls.in_order()
            for call in calls:
                call.begin_anew()
            try:
                link.begin(self._patience_s)
                if self._will is not None:
                    self._will = self._will._replace(after_ms=self._grace_ms())
                    link.send(write_request(next(self._numbers), self._will))
                for call in calls:
                    link.send(write_request(call.number, call.request))
                self._reader.replace(link)
                if self.is_over.is_set():  # by a thread that found no connection to shut down
                    raise ConnectionAbortedError
            except OSError:
                self._reader.release()
                link.close()
                return False
        return True

    def lose(self, reason: str) -> None:
        self._end(
            RendezvousConnectionError(
                f"the rendezvous store at {self._endpoint} was lost: {reason}"
            )
        )

    def _end(self, error: RendezvousConnectionError) -> None:
        self.is_over.set()  # first: whoever replaces the connection looks here afterwards
        calls, error = self._calls.take_all(error)
        link = self._reader.link
        if link is not None:
            link.shut_down()
        for call in calls:
            call.end(error)
        self._reader.wake()

    def _grace_ms(self) -> int:
        """Return for how long this client may stay away, by what connecting took the last time."""
        if not self._reconnection.is_possible:
            return 0
        needed_s = min(_GRACE_PER_DIAL * self._reconnection.dial_s, _MOST_ADDED_S)
        return int(min(1000 * max(self._grace_s, needed_s), MAX_AFTER_MS))
