"""Timers over a multiprocessing queue, for the processes that a program starts itself."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import time
from typing import Any

from ...rendezvous.logs import Log
from .api import RequestQueue, TimerClient, TimerRequest, TimerServer

log = Log(__name__)

_RELEASED = -1.0


_LONGEST_GET_S = 1e6  # a queue waits with poll(), which takes milliseconds as a C int


class LocalTimerClient(TimerClient):
    """Puts this process's timers into the queue of a ``LocalTimerServer``.

    Args:
        mp_queue: A ``multiprocessing`` queue.
    """

    def __init__(self, mp_queue: Any) -> None:
        self._mp_queue = mp_queue

    def acquire(self, scope_id: str, expiration_time: float) -> None:
        self._mp_queue.put(TimerRequest(os.getpid(), scope_id, expiration_time))

    def release(self, scope_id: str) -> None:
        self._mp_queue.put(TimerRequest(os.getpid(), scope_id, _RELEASED))


class MultiprocessingRequestQueue(RequestQueue):
    """The server's end of a queue.

    Args:
        mp_queue: A ``multiprocessing`` queue.
    """

    def __init__(self, mp_queue: Any) -> None:
        self._mp_queue = mp_queue

    def size(self) -> int:
        return int(self._mp_queue.qsize())

    def get(self, size: int, timeout: float) -> list[TimerRequest]:
        deadline = time.monotonic() + timeout
        requests: list[TimerRequest] = []
        with contextlib.suppress(queue.Empty):
            while len(requests) < size:
                left_s = min(max(0.0, deadline - time.monotonic()), _LONGEST_GET_S)
                requests.append(self._mp_queue.get(timeout=left_s))
        return requests


class LocalTimerServer(TimerServer):
    """Kills processes of this node whose timers have expired.

    The server trusts the clients: queue and processes belong to this program.

    Args:
        mp_queue: The clients' queue.
        max_interval: Longest time in seconds between two checks of the timers.
        daemon: Whether the interpreter may end while the server runs.
    """

    def __init__(self, mp_queue: Any, max_interval: float = 60, daemon: bool = True) -> None:
        super().__init__(MultiprocessingRequestQueue(mp_queue), max_interval, daemon)
        # With the time of expiry by the monotonic clock: the other one may be set meanwhile.
        self._timers: dict[tuple[int, str], tuple[TimerRequest, float]] = {}

    def register_timers(self, timer_requests: list[TimerRequest]) -> None:
        for request in timer_requests:
            key = request.worker_id, request.scope_id
            if request.expiration_time < 0:
                self._timers.pop(key, None)
            else:
                self._timers[key] = request, _on_monotonic_clock(request.expiration_time)

    def clear_timers(self, worker_ids: set[int]) -> None:
        self._timers = {
            key: timer for key, timer in self._timers.items() if key[0] not in worker_ids
        }

    def get_expired_timers(self, deadline: float) -> dict[int, list[TimerRequest]]:
        expired: dict[int, list[TimerRequest]] = {}
        deadline = _on_monotonic_clock(deadline)
        for request, expires_at in self._timers.values():
            if expires_at <= deadline:
                expired.setdefault(request.worker_id, []).append(request)
        return expired

    def _reap_worker(self, worker_id: int) -> bool:
        try:
            os.kill(worker_id, signal.SIGKILL)
        except ProcessLookupError:
            log.info("process %d has ended already", worker_id)
        except PermissionError as error:
            log.warning("process %d can't be killed: %s", worker_id, error)
            return False
        return True


def _on_monotonic_clock(epoch_s: float) -> float:
    """Return a time in seconds since the epoch as the monotonic clock will show it."""
    return epoch_s - time.time() + time.monotonic()
