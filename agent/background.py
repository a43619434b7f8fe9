"""Makes calls in a thread of its own, for a loop that can't wait for them.

The called functions are not elrun's: they may raise, block for seconds, or never return. Such a
fault costs one warning, and the loop no more than the time that it grants at the end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from ..rendezvous.logs import Log
from ..rendezvous.threads import NoThreadError, start_daemon

log = Log(__name__)

MAX_WAITING_CALLS = 10_000


class NotTakenError(Exception):
    """What was called did not take what it was given; the text says why, in whole words."""


class Background:
    """Makes calls one after the other, in the order in which they were requested.

    Args:
        name: Name of what is called, for people.
        loss: What is lost when calls fail, for people.
    """

    def __init__(self, name: str, loss: str) -> None:
        self._name = name
        self._loss = loss
        self._changed = threading.Condition()
        self._waiting: deque[Callable[[], object]] = deque()
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._has_warned = False

    def call(self, function: Callable[[], object]) -> None:
        """Have the function called soon; return at once. Once closed, do nothing."""
        with self._changed:
            is_full = len(self._waiting) >= MAX_WAITING_CALLS
            if not is_full and not self._is_closed:
                self._waiting.append(function)
                self._changed.notify_all()
                self._thread = self._thread or self._start()
        if is_full:
            self._warn(f"is {MAX_WAITING_CALLS} calls behind")

    def close(self, timeout_s: float) -> None:
        """Wait until all calls are made, for a bounded time, and end the thread.

        Args:
            timeout_s: How long it may take; what has not been called by then never is.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is None:
            return
        thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            self._waiting.clear()
        if thread.is_alive():
            self._warn(f"has not taken all within {timeout_s:g} s")

    def _start(self) -> threading.Thread | None:
        try:
            return start_daemon(self._run, self._name)
        except NoThreadError as error:
            self._waiting.clear()
            self._warn(f"can't be called: {error.strerror}")
            return None

    def _run(self) -> None:
        while (function := self._next()) is not None:
            try:
                function()
            except NotTakenError as error:
                self._warn(f"does not take what is sent: {error}")
            except BaseException as error:  # noqa: BLE001  whatever a foreign handler raises
                self._warn(f"failed: {type(error).__name__}: {error}")
            with self._changed:
                if self._waiting:  # else close() has given up on all of them
                    self._waiting.popleft()

    def _next(self) -> Callable[[], object] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            return self._waiting[0] if self._waiting else None

    def _warn(self, what: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning("%s %s; %s are lost", self._name, what, self._loss)
