"""Timers that a worker sets around code that may get stuck, so that somebody else ends it then.

In the worker::

    from elrun.agent import timers

    timers.configure(timers.FileTimerClient(os.environ["TORCHELASTIC_TIMER_FILE"]))
    with timers.expires(after=60, scope="all-reduce"):
        dist.all_reduce(gradients)

A client tells a server of each timer. With ``TORCHELASTIC_ENABLE_FILE_TIMER=1`` the agent has one
that listens to a named pipe; programs that start their own processes may have another. The names
and what they mean are those of ``torch.distributed.elastic.timer``.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from ...rendezvous.threads import start_thread

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TimerRequest:
    """A timer that is set, or released.

    Args:
        worker_id: Whose it is: whatever client and server agree on, mostly a process id.
        scope_id: Name of the code that it guards; a worker has one timer for each name.
        expiration_time: When it expires, in seconds since the epoch; negative: it is released.
    """

    worker_id: Any
    scope_id: str
    expiration_time: float


class TimerClient(ABC):
    """Sets and releases this worker's timers at a server."""

    @abstractmethod
    def acquire(self, scope_id: str, expiration_time: float) -> None:
        """Set a timer, or set it anew.

        Args:
            scope_id: Name of the code that it guards.
            expiration_time: When it expires, in seconds since the epoch.
        """

    @abstractmethod
    def release(self, scope_id: str) -> None:
        """Release a timer: the code has come to its end."""


class RequestQueue(ABC):
    """Where a server finds the requests of its clients."""

    @abstractmethod
    def size(self) -> int:
        """Return how many requests are there now; more may come at any time."""

    @abstractmethod
    def get(self, size: int, timeout: float) -> list[TimerRequest]:
        """Return up to ``size`` requests, after ``timeout`` seconds those that are there."""


class TimerServer(ABC):
    """Looks at its clients' timers again and again, and reaps workers whose timers expired.

    A template: what a timer is kept in and what reaping means, a subclass says.

    Args:
        request_queue: Where requests come from.
        max_interval: Longest time in seconds between two looks, and so between a timer's end and
            its worker's.
        daemon: Whether the interpreter may end while the server runs.
    """

    def __init__(
        self, request_queue: RequestQueue, max_interval: float, daemon: bool = True
    ) -> None:
        self._request_queue = request_queue
        self._max_interval = max_interval
        self._daemon = daemon
        self._thread: threading.Thread | None = None
        self._is_stopping = False

    @abstractmethod
    def register_timers(self, timer_requests: list[TimerRequest]) -> None:
        """Take requests in: set timers, or release those whose time is negative."""

    @abstractmethod
    def clear_timers(self, worker_ids: set[Any]) -> None:
        """Forget all timers of some workers."""

    @abstractmethod
    def get_expired_timers(self, deadline: float) -> dict[Any, list[TimerRequest]]:
        """Return the timers that expire until then, in seconds since the epoch, by worker."""

    @abstractmethod
    def _reap_worker(self, worker_id: Any) -> bool:
        """End a worker; return whether it was done. What it raises counts as done."""

    def start(self) -> None:
        """Begin to look, in a thread."""
        if self._thread is None:
            self._is_stopping = False
            self._thread = start_thread(
                threading.Thread(target=self._watch, name="elrun-timers", daemon=self._daemon)
            )

    def stop(self) -> None:
        """End the thread; wait for that no longer than a look takes."""
        self._is_stopping = True
        if self._thread is not None:
            self._thread.join(min(self._max_interval, threading.TIMEOUT_MAX))
            self._thread = None

    def _watch(self) -> None:
        while not self._is_stopping:
            self._look()

    def _look(self) -> None:
        try:
            self._run_watchdog()
        except Exception:  # a subclass's; the other workers' timers go on
            log.exception("timers can't be looked at")

    def _run_watchdog(self) -> None:
        waiting = max(1, self._request_queue.size())
        self.register_timers(self._request_queue.get(waiting, self._max_interval))
        reaped = set()
        for worker_id, expired in self.get_expired_timers(time.time()).items():
            log.info("worker %s is reaped: %s", worker_id, [each.scope_id for each in expired])
            if self._try_to_reap(worker_id):
                reaped.add(worker_id)
            else:
                log.warning("worker %s can't be reaped; it is tried again", worker_id)
        self.clear_timers(reaped)

    def _try_to_reap(self, worker_id: Any) -> bool:
        try:
            return self._reap_worker(worker_id)
        except Exception:  # a subclass's; once more would hardly help
            log.exception("worker %s can't be reaped", worker_id)
            return True


class _Configured:
    """The process's client: torch's interface asks for one that all code finds."""

    client: TimerClient | None = None


def configure(timer_client: TimerClient | None) -> None:
    """Choose the client that ``expires`` uses in this process where it is given none."""
    _Configured.client = timer_client


def expires(
    after: float, scope: str | None = None, client: TimerClient | None = None
) -> AbstractContextManager[None]:
    """Guard a ``with`` block by a timer: if it isn't left in time, this worker is reaped.

    Args:
        after: Seconds from the entry to the block.
        scope: Name of the block; by default the caller's file and line. In a block within a block
            of the same name, the inner one's timer takes the place of the outer one's.
        client: Who tells the server; by default the one that was configured.

    Raises:
        ValueError: ``after`` is no number of seconds.
        RuntimeError: On entry: no client was given or configured.
    """
    if not 0 <= after < math.inf:
        raise ValueError(f"after={after}: give a number of seconds")
    if scope is None:
        caller = sys._getframe(1)  # noqa: SLF001  inspect costs a hundred times as much
        scope = f"{caller.f_code.co_filename}#{caller.f_lineno}"
    return _guard(after, scope, client)


@contextmanager
def _guard(after: float, scope: str, client: TimerClient | None) -> Iterator[None]:
    client = client or _Configured.client
    if client is None:
        raise RuntimeError(
            "there is no timer client: call elrun.agent.timers.configure(…) before expires(…)"
        )
    client.acquire(scope, time.time() + after)
    try:
        yield
    finally:
        client.release(scope)
