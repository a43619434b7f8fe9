"""The requests of one client of a store server that have not been answered."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ...errors import RendezvousConnectionError
from ..notify import Told
from .wire import Answer, Request


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
        # Held until the call has ended: an Event does the same with three locks and a list.
        self._runs = threading.Lock()
        self._runs.acquire()
        self._hear = hear

    def take(self, answer: Answer) -> None:
        """Take in an answer, or a part of one."""
        self.parts += answer.values
        self.count = answer.amount

    def begin_anew(self) -> None:
        """Forget the parts of an answer whose rest was lost with a connection."""
        self.parts.clear()

    def end(self, error: RendezvousConnectionError | None = None) -> None:
        """Wake the thread that waits for the answer."""
        self.error = error
        self._runs.release()
        if self._hear is not None:
            self._hear([value or b"" for value in self.parts] if error is None else error)

    def await_end(self, timeout_s: float | None = None) -> bool:
        """Return whether the call ends within a time."""
        if not self._runs.acquire(timeout=-1 if timeout_s is None else max(0.0, timeout_s)):
            return False
        self._runs.release()  # for the next thread that asks, and for this one when it asks again
        return True
