"""Writes the history of a run: what the agent hands over, and a sample of the workers now and then.

One thread does it, beside the agent's loop: neither a file system nor a GPU's driver that does not
answer can hold the loop up. The thread wakes for a line or for a sample, and for nothing else.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from ...rendezvous.logs import Log
from ...rendezvous.threads import NoThreadError, start_daemon
from ..output.history_file import SAMPLE, VERSION, HistoryFile
from ..output.run_folders import NoRunFolder
from .samples import Sampler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

log = Log(__name__)

INTERVAL_S = 5.0
"""The time between two samples."""

_MOST_INTERVAL_S = 60.0
_MOST_CPU_SHARE = 0.001 / 5
_MOST_WAITING = 1_000


class _Watched:
    """The processes that samples are taken of, and whether the first one is due at once."""

    __slots__ = ("is_due", "pids")

    def __init__(self, pids: Mapping[int, int], *, is_due: bool) -> None:
        self.pids = pids
        self.is_due = is_due


class HistoryRecorder:
    """The thread that writes a run's history; it begins with the first line.

    Args:
        file: Where.
        sampler: Takes samples; called in the thread.
        clock: Returns the time of a sample, in seconds since the epoch.
        interval_s: The shortest time between two samples.
    """

    def __init__(
        self,
        file: HistoryFile,
        sampler: Sampler,
        clock: Callable[[], float],
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._file = file
        self._sampler = sampler
        self._interval_s = interval_s
        self._clock = clock
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        # The lock guards what follows.
        self._waiting: deque[tuple[str, Mapping[str, Any]]] = deque()
        self._watched = _Watched({}, is_due=False)
        self._thread: threading.Thread | None = None
        self._is_closing = self._is_over = False

    def put(self, kind: str, line: Mapping[str, Any]) -> None:
        """Have a line written soon; where the thread is far behind, the line is lost."""
        with self._lock:
            if self._is_over or len(self._waiting) >= _MOST_WAITING:
                return
            self._waiting.append((kind, line))
            self._changed.notify_all()
            if self._thread is None:
                try:
                    self._thread = start_daemon(self._run, "elrun-history")
                except NoThreadError as error:
                    self._is_over = True
                    log.info("no history of this run is kept: %s", error.strerror)

    def watch(self, pids: Mapping[int, int], *, is_due: bool = False) -> None:
        """Take samples of these processes from now on.

        Args:
            pids: Process ids by global rank; none: there is nothing to sample.
            is_due: Whether the first sample is due at once: they have run for a while.
        """
        with self._lock:
            self._watched = _Watched(pids, is_due=is_due)
            self._changed.notify_all()

    def close(self, timeout_s: float) -> None:
        """Wait until all lines are written, for a bounded time, and end the thread."""
        with self._lock:
            self._is_closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._record()
        except NoRunFolder as error:
            log.info("no history of this run is kept: %s", error.strerror)
        except OSError as error:
            log.warning(
                "the history of this run ends here: it can't be written to %s: %s",
                self._file.place or error.filename,
                error.strerror,
            )
        finally:
            with self._lock:
                self._is_over = True
                self._waiting.clear()
            self._file.close()
            self._sampler.close()

    def _record(self) -> None:
        due_at = 0.0
        seen: _Watched | None = None
        self._file.append("begin", {"at": round(self._clock(), 3), "version": VERSION})
        while True:
            lines, watched, is_closing = self._next(due_at, seen)
            if watched is not seen:
                seen = watched
                due_at = time.monotonic() + (0.0 if watched.is_due else self._interval_s)
            for kind, line in lines:
                self._file.append(kind, line)
            if is_closing:
                return
            if watched.pids and time.monotonic() >= due_at:
                due_at = time.monotonic() + self._take_sample(watched.pids)

    def _next(
        self, due_at: float, seen: _Watched | None
    ) -> tuple[list[tuple[str, Mapping[str, Any]]], _Watched, bool]:
        """Wait for lines, for other workers or for the next sample."""
        with self._lock:
            while not self._waiting and not self._is_closing and self._watched is seen:
                left_s = due_at - time.monotonic() if seen.pids else None
                if left_s is not None and left_s <= 0:
                    break
                self._changed.wait(left_s)
            lines = list(self._waiting)
            self._waiting.clear()
            return lines, self._watched, self._is_closing

    def _take_sample(self, pids: Mapping[int, int]) -> float:
        """Write a sample; return the time until the next one."""
        began_s = time.thread_time()
        at = round(self._clock(), 3)
        for kind, line in self._sampler.news():
            self._file.append(kind, {"at": at, **line})
        self._file.append(SAMPLE, {"at": at, **self._sampler.sample(pids)})
        return pause_after(time.thread_time() - began_s, self._interval_s)


def pause_after(cost_s: float, interval_s: float) -> float:
    """Return the time to the next sample: the more CPU time a sample takes, the fewer there are.

    Args:
        cost_s: CPU time that the latest one took.
        interval_s: The shortest pause.
    """
    return min(max(interval_s, cost_s / _MOST_CPU_SHARE), max(interval_s, _MOST_INTERVAL_S))
