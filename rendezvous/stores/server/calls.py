"""The requests of one client of a store server that have not been answered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from ...errors import (
    RendezvousConnectionError,
    RendezvousRefusalError,
    RendezvousRoundOverError,
)
from ...logs import Log
from ...protocol.timing import seconds_in_words
from ..store import Told
from .frames import WireError
from .wire import Answer, Create, Get, Request, Set, Wait

log = Log(__name__)

_MOST_STRAYS = 1 << 16  # far more than the answers to all waits that a client may take back
_SILENCE = (
    "the rendezvous store at %s does not answer%s; it is waited for up to %s s "
    "(--rdzv-conf store_patience=...)"
)


class Call:
    """A request, and its answer once that is there.

    Args:
        number: The request's.
        request: The request.
        hear: Called with the values, or with the error, by the thread that ends the call.
    """

    def __init__(
        self, number: int, request: Request, hear: Callable[[Told], None] | None = None
    ) -> None:
        self.number = number
        self.request = request
        self.parts: list[bytes | None] = []
        self.count = 0
        self.error: RendezvousConnectionError | None = None
        self.has_ended = False
        # Held until the call has ended: an Event does the same with three locks and a list.
        self._runs = threading.Lock()
        self._runs.acquire()
        self._hear = hear

    @property
    def values(self) -> list[bytes]:
        """The values of a wait that has ended: each of them is there."""
        return [value or b"" for value in self.parts]

    def take(self, answer: Answer) -> None:
        """Take in an answer, or a part of one.

        Raises:
            WireError: It has other values than were asked for.
        """
        if answer.has_more and not answer.values:
            raise WireError("a part of an answer is empty")
        self.parts += answer.values
        self.count = answer.amount
        wanted = _values_wanted(self.request)
        is_whole = not (answer.has_more or answer.error)
        if len(self.parts) > wanted or (is_whole and len(self.parts) < wanted):
            raise WireError(f"{len(self.parts)} values, and {wanted} were asked for")

    def begin_anew(self) -> None:
        """Forget the parts of an answer whose rest was lost with a connection."""
        self.parts.clear()

    def end(self, error: RendezvousConnectionError | None = None) -> None:
        """Wake the thread that waits for the answer."""
        self.error = error
        self.has_ended = True
        self._runs.release()
        if self._hear is not None:
            self._hear(self.values if error is None else error)

    def await_end(self, timeout_s: float | None = None) -> bool:
        """Return whether the call ends within a time."""
        if not self._runs.acquire(timeout=-1 if timeout_s is None else max(0.0, timeout_s)):
            return False
        self._runs.release()  # for the next thread that asks, and for this one when it asks again
        return True


class Calls:
    """The calls of one client that have not ended; any thread may use them.

    Args:
        endpoint: How people call the place of the server.
        patience_s: How long the server may leave a request without an answer.
    """

    def __init__(self, endpoint: str, patience_s: float) -> None:
        self._endpoint = endpoint
        self._patience_s = patience_s
        # The lock guards what follows.
        self._lock = threading.Lock()
        self._pending: dict[int, Call] = {}
        self._ended: RendezvousConnectionError | None = None
        self._is_silent = False
        self._strays = 0  # answers to no call, since the last one to a call

    @property
    def are_silent(self) -> bool:
        """Whether the server has not answered since its silence was reported."""
        with self._lock:
            return self._is_silent

    def add(self, calls: Sequence[Call]) -> None:
        """Add calls, whose requests are about to be sent.

        Raises:
            RendezvousConnectionError: All calls have ended for good.
        """
        with self._lock:
            if self._ended is not None:
                raise copy_of(self._ended)
            self._pending.update((call.number, call) for call in calls)

    def in_order(self) -> list[Call]:
        with self._lock:
            return sorted(self._pending.values(), key=lambda call: call.number)

    def take(self, answer: Answer) -> bool:
        """Take in an answer, or a part of one; return whether it is one to a call.

        The answer to a wait that was taken back is none.

        Raises:
            WireError: It does not fit the request, or too many answers are to none.
        """
        with self._lock:
            was_silent, self._is_silent = self._is_silent, False
            call = self._pending.get(answer.number)
            self._strays = 0 if call is not None else self._strays + 1
            if self._strays > _MOST_STRAYS:
                raise WireError(f"{_MOST_STRAYS} answers to no request")
            if call is not None:
                call.take(answer)
                if not answer.has_more:
                    del self._pending[answer.number]
        if was_silent:
            log.warning("the rendezvous store at %s answers again", self._endpoint)
        if call is not None and not answer.has_more:
            call.end(
                (RendezvousRoundOverError if answer.is_over else RendezvousRefusalError)(
                    f"the rendezvous store at {self._endpoint} refused a request: {answer.error}"
                )
                if answer.error
                else None
            )
        return call is not None

    def take_back(self, call: Call) -> bool:
        """Remove a call; return False if it has ended or is about to."""
        with self._lock:
            return self._pending.pop(call.number, None) is not None

    def report_silence(self, instead: str) -> None:
        """Say once, until the server answers again, that it does not.

        Args:
            instead: What answers in its place, for people.
        """
        with self._lock:
            if self._is_silent or self._ended is not None:
                return
            self._is_silent = True
        log.warning(_SILENCE, self._endpoint, instead, seconds_in_words(self._patience_s))

    def take_all(
        self, error: RendezvousConnectionError
    ) -> tuple[list[Call], RendezvousConnectionError]:
        """Let no call begin any more; return those that are left, and the error to end them with.

        Args:
            error: Why; the first one stands.
        """
        with self._lock:
            self._ended = self._ended or error
            calls, self._pending = list(self._pending.values()), {}
            return calls, self._ended


def _values_wanted(request: Request) -> int:
    match request:
        case Get(keys) | Wait(keys) | Set(_, keys):
            return len(keys)
        case Create():
            return 1
        case _:
            return 0


def copy_of(error: RendezvousConnectionError) -> RendezvousConnectionError:
    """Return an error to be raised: one that was raised before has a traceback already."""
    return type(error)(str(error))
