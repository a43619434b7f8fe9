"""Keeps log handlers out of the agent's loop: a thread calls them.

A handler writes to places that may take nothing: a full pipe that nobody reads, a terminal that was
halted with Ctrl-S, a file server that hangs. A loop that waits for one is deaf to signals and ends
no worker. So while an agent runs, whatever elrun logs is handed to a thread. The caller waits for
it briefly, which keeps lines in order with what workers print, and no longer once the thread lags.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque

from ...rendezvous.threads import NoThreadError, start_daemon

PATIENCE_S = 0.1
"""How long a caller waits until its record has been handled."""

MAX_WAITING = 1000


class LogRelay(logging.Handler):
    """Hands records to other handlers in a thread, in order; drops what is too far behind.

    Args:
        logger: Whose handlers these are, as they are at the time of each record.
    """

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self._logger = logger
        self._owner = os.getpid()
        self._changed = threading.Condition()
        self._waiting: deque[logging.LogRecord] = deque()
        self._dropped = 0
        self._is_late = False
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def createLock(self) -> None:
        """Have no lock: whoever waits for a handler must not keep others from logging."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Have the record handled soon; return at once where handlers lag behind."""
        is_own = threading.current_thread() is self._thread
        if os.getpid() != self._owner or is_own or not self._enqueue(record):
            self._logger.callHandlers(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Do the same as ``handle``."""
        self.handle(record)

    def settle(self, timeout_s: float) -> None:
        """Wait until all records have been handled, for a bounded time, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        with self._changed:
            self._waiting.clear()

    def _enqueue(self, record: logging.LogRecord) -> bool:
        deadline = time.monotonic() + PATIENCE_S
        with self._changed:
            if self._is_closed or not self._has_thread():
                return False
            if len(self._waiting) >= MAX_WAITING:
                self._dropped += 1
                return True
            self._waiting.append(record)
            self._changed.notify_all()
            while record in self._waiting and not self._is_late:
                self._is_late = not self._changed.wait(deadline - time.monotonic())
        return True

    def _has_thread(self) -> bool:
        if self._thread is None:
            try:
                self._thread = start_daemon(self._run, "elrun-log")
            except NoThreadError:
                return False
        return True

    def _run(self) -> None:
        while (record := self._next()) is not None:
            try:
                self._logger.callHandlers(record)
            except Exception:  # noqa: BLE001  a program's own handler; logging says so its own way
                self.handleError(record)
            with self._changed:
                if self._waiting:  # else nobody waits for the rest any more
                    self._waiting.popleft()
                self._is_late = self._is_late and bool(self._waiting)
                self._changed.notify_all()

    def _next(self) -> logging.LogRecord | None:
        with self._changed:
            if self._dropped and len(self._waiting) <= 1:
                self._waiting.append(self._report_of_loss())
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            return self._waiting[0] if self._waiting else None

    def _report_of_loss(self) -> logging.LogRecord:
        dropped, self._dropped = self._dropped, 0
        sentence = "%d lines of elrun's own were left out, since nobody took them"
        return logging.LogRecord(__name__, logging.WARNING, "", 0, sentence, (dropped,), None)


class Holders:
    """Counts the agents of this process that need the relay."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._relay: LogRelay | None = None
        self._behind: logging.Logger | None = None

    def enter(self, logger: logging.Logger) -> None:
        """Let the relay call a logger's handlers from now on."""
        with self._lock:
            self._count += 1
            if self._count > 1:
                return
            self._behind = logging.Logger(logger.name)  # noqa: LOG001  nobody else may find it
            self._behind.parent = logger.parent
            self._behind.propagate = logger.propagate
            self._behind.handlers = list(logger.handlers)
            self._relay = LogRelay(self._behind)
            logger.handlers = [self._relay]
            logger.propagate = False

    def leave(self, logger: logging.Logger, settle_s: float) -> None:
        """Let the logger call them itself again, once the last agent has left."""
        with self._lock:
            self._count -= 1
            if self._count or self._relay is None or self._behind is None:
                return
            self._relay.settle(settle_s)
            added = [each for each in logger.handlers if each is not self._relay]
            logger.handlers = self._behind.handlers + added
            logger.propagate = self._behind.propagate
            self._relay.close()
            self._relay = self._behind = None


holders = Holders()
"""Of this process: its agents share one relay."""
