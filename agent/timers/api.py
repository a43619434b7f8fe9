"""Timers around code that may get stuck: when a timer expires, a server ends its worker.

In the worker::

    from elrun.agent import timers

    timers.configure(timers.FileTimerClient(os.environ["TORCHELASTIC_TIMER_FILE"]))
    with timers.expires(after=60, scope="all-reduce"):
        dist.all_reduce(gradients)

A client sends each timer to a server. With ``TORCHELASTIC_ENABLE_FILE_TIMER=1`` the agent has a
server that reads a named pipe; a program that starts its own processes may have its own server. The
names and their meaning are those of ``torch.distributed.elastic.timer``.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from ...rendezvous.logs import Log
from ...rendezvous.threads import start_thread

log = Log(__name__)


@dataclass(frozen=True, slots=True)
class TimerRequest:
    """A request to set or release a timer.

    Args:
        worker_id: The worker, by any id that client and server agree on; mostly a process id.
        scope_id: Name of the guarded code; a worker has one timer for each name.
        expiration_time: When the timer expires, in seconds since the epoch; negative: release it.
    """

    worker_id: Any
    scope_id: str
    expiration_time: float


class TimerClient(ABC):
    """Sets and releases this worker's timers."""

    @abstractmethod
    def acquire(self, scope_id: str, expiration_time: float) -> None:
        """Set a timer, or replace it.

        Args:
            scope_id: Name of the guarded code.
            expiration_time: When the timer expires, in seconds since the epoch.
        """

    @abstractmethod
    def release(self, scope_id: str) -> None:
        """Release a timer, at the end of the guarded code."""


class RequestQueue(ABC):
    """The queue of a server's requests."""

    @abstractmethod
    def size(self) -> int:
        """Return the number of requests in the queue; more may come at any time."""

    @abstractmethod
    def get(self, size: int, timeout: float) -> list[TimerRequest]:
        """Return ``size`` requests; after ``timeout`` seconds, those that have come."""


class TimerServer(ABC):
    """Checks its clients' timers again and again, and ends workers whose timers have expired.

    A template: a subclass stores the timers and ends the workers.

    Args:
        request_queue: The queue of requests.
        max_interval: Longest time in seconds between two checks, and so between the expiry of a
            timer and the end of its worker.
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
        """Set timers, or release those whose time is negative."""

    @abstractmethod
    def clear_timers(self, worker_ids: set[Any]) -> None:
        """Release all timers of these workers."""

    @abstractmethod
    def get_expired_timers(self, deadline: float) -> dict[Any, list[TimerRequest]]:
        """Return, by worker, the timers that expire before a time in seconds since the epoch."""

    @abstractmethod
    def _reap_worker(self, worker_id: Any) -> bool:
        """End a worker; return whether that succeeded. An exception counts as success."""

    def start(self) -> None:
        """Start to check the timers, in a thread."""
        if self._thread is None:
            self._is_stopping = False
            self._thread = start_thread(
                threading.Thread(target=self._watch, name="elrun-timers", daemon=self._daemon)
            )

    def stop(self) -> None:
        """Stop the thread; wait for its end, ``max_interval`` at most."""
        self._is_stopping = True
        if self._thread is not None:
            self._thread.join(min(self._max_interval, threading.TIMEOUT_MAX))
            self._thread = None

    def _watch(self) -> None:
        while not self._is_stopping:
            self._check_safely()

    def _check_safely(self) -> None:
        try:
            self._run_watchdog()
        except Exception:  # from a subclass; the other workers' timers go on
            log.exception("timers can't be checked")

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
        except Exception:  # from a subclass; another try would hardly help
            log.exception("worker %s can't be reaped", worker_id)
            return True


class _Configured:
    """The client of the whole process, as in torch's interface."""

    client: TimerClient | None = None


def configure(timer_client: TimerClient | None) -> None:
    """Set the client that ``expires`` uses by default in this process."""
    _Configured.client = timer_client


def expires(
    after: float, scope: str | None = None, client: TimerClient | None = None
) -> AbstractContextManager[None]:
    """Guard a ``with`` block by a timer: if the block takes longer, this worker is ended.

    Args:
        after: Seconds from the entry of the block to the expiry.
        scope: Name of the block; by default the caller's file and line. If a block is inside a
            block of the same name, the inner timer replaces the outer one.
        client: The client that sends the timer; by default the configured one.

    Raises:
        ValueError: ``after`` is no number of seconds.
        RuntimeError: On entry, if no client was given or configured.
    """
    if not 0 <= after < math.inf:
        raise ValueError(f"after={after}: give a number of seconds")
    if scope is None:
        caller = sys._getframe(1)
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
