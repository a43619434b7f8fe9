"""The state of the server of a named pipe: the requests in a stream of bytes, and the timers.

This module uses no pipe and no clock; the time is an argument. The memory in use has a limit,
whatever a client writes to the pipe.
"""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass

from .file_client import MAX_REQUEST_BYTES, FileTimerRequest

MAX_TIMERS = 10_000

_TENTHS_BELOW_S = 10  # 12 s, but 1.5 s
_START_OF_REQUEST = b'{"version"'


class RequestReader:
    """Cuts the bytes of a pipe into requests; a line that is no request is noted and skipped."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_skipping = False
        self.problems: list[str] = []

    def feed(self, data: bytes) -> list[FileTimerRequest]:
        """Return the requests that end in these bytes; set ``problems`` for the other lines."""
        self.problems = []
        *lines, rest = (self._rest + data).split(b"\n")
        requests = []
        for line in lines:
            if self._is_skipping:
                self._is_skipping = False
            elif line.strip():
                requests += self._read(line)
        if len(rest) > MAX_REQUEST_BYTES:
            if not self._is_skipping:
                self._note(rest, f"more than {MAX_REQUEST_BYTES} bytes")
            self._is_skipping = True
        self._rest = b"" if self._is_skipping else rest
        return requests

    def _read(self, line: bytes) -> list[FileTimerRequest]:
        # If a writer died in the middle of a line, the next request follows on the same line.
        starts = {0, max(0, line.rfind(_START_OF_REQUEST))}
        found = []
        for start in sorted(starts):
            text = line[start:]
            if len(text) > MAX_REQUEST_BYTES:
                self._note(text, f"more than {MAX_REQUEST_BYTES} bytes")
                continue
            try:
                found = [FileTimerRequest.from_json(text)]
            except ValueError as error:
                self._note(text, str(error))
        return found

    def _note(self, text: bytes, problem: str) -> None:
        self.problems.append(f"{text[:60]!r}: {problem}")


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer that runs.

    Args:
        request: The request that set the timer.
        process_start: When the requesting process started, see `process_tree.Process`.
        set_at: When the request was read, by the monotonic clock.
        expires_at: When the timer expires, by the same clock.
    """

    request: FileTimerRequest
    process_start: int
    set_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class Stuck:
    """A process that has not released a timer in time.

    Args:
        timer: The process's first expired timer that asks for a signal; if none does, the first.
        for_s: Seconds since the timer was set.
    """

    timer: Timer
    for_s: float

    @property
    def pid(self) -> int:
        """The process id."""
        return self.timer.request.worker_pid

    @property
    def description(self) -> str:
        """The end of a sentence about the process: it was stuck, where, and for how long."""
        scope = self.timer.request.scope_id
        return f"was stuck in the timer scope {scope!r} for {self.for_s:.{_digits(self.for_s)}f} s"


class TimerTable:
    """The timers of all processes, by process id and scope."""

    def __init__(self) -> None:
        self.timers: dict[tuple[int, str], Timer] = {}

    def take(self, request: FileTimerRequest, process_start: int, now: float, epoch: float) -> bool:
        """Set or release a timer.

        Args:
            process_start: When the requesting process started.
            now: The time by the monotonic clock.
            epoch: The same time in seconds since the epoch.

        Returns:
            Whether there was room for the timer.
        """
        key = request.worker_pid, request.scope_id
        if request.expiration_time < 0:
            self.timers.pop(key, None)
            return True
        if key not in self.timers and len(self.timers) >= MAX_TIMERS:
            return False
        # Client and server share a wall clock, but the clock may be set while the timer runs.
        left_s = max(0.0, request.expiration_time - epoch)
        self.timers[key] = Timer(request, process_start, now, now + left_s)
        return True

    @property
    def next_expiry(self) -> float:
        """When the next timer expires, by the monotonic clock; ``math.inf`` if there is none."""
        return min((timer.expires_at for timer in self.timers.values()), default=math.inf)

    def take_expired(self, now: float) -> list[Stuck]:
        """Return the processes with expired timers, and release all timers of each."""
        late: dict[int, list[Timer]] = {}
        for (pid, _), timer in self.timers.items():
            if timer.expires_at <= now:
                late.setdefault(pid, []).append(timer)
        self.forget(late)
        return [
            Stuck(first, now - first.set_at)
            for timers in late.values()
            for first in [min(timers, key=lambda each: (each.request.signal <= 0, each.expires_at))]
        ]

    def forget(self, pids: Container[int]) -> None:
        """Drop all timers of some processes."""
        self.timers = {key: timer for key, timer in self.timers.items() if key[0] not in pids}


def _digits(seconds: float) -> int:
    return 0 if seconds >= _TENTHS_BELOW_S else 1
