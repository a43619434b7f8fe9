"""What the server of a named pipe knows: requests read from bytes, and timers that may expire.

All is decided on values; the time is passed in. Nothing grows with what is written into the pipe.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .file_client import MAX_REQUEST_BYTES, FileTimerRequest

MAX_TIMERS = 10_000

_START_OF_REQUEST = b'{"version"'


class RequestReader:
    """Cuts the bytes of a pipe into requests; what is none is counted, and skipped."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_skipping = False
        self.problems: list[str] = []

    def feed(self, data: bytes) -> list[FileTimerRequest]:
        """Return the requests that end in these bytes; ``problems`` says what else there was."""
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
        # A writer that died in the middle of a line has spoilt the next one's beginning, not more.
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
        request: Who set it.
        process_start: When the process started that set it, see `process_tree.Process`.
        set_at: When the request was read, by the monotonic clock.
        expires_at: When it expires, by the same clock.
    """

    request: FileTimerRequest
    process_start: int
    set_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class Stuck:
    """A process that has not released a timer in time.

    Args:
        timer: The first of its timers that expired and asks for a signal, else the first.
        for_s: Seconds since it was set.
    """

    timer: Timer
    for_s: float

    @property
    def pid(self) -> int:
        """The process id."""
        return self.timer.request.worker_pid

    @property
    def description(self) -> str:
        """What happened to the process, as the rest of a sentence about it."""
        scope = self.timer.request.scope_id
        return f"was stuck in the timer scope {scope!r} for {self.for_s:.{_digits(self.for_s)}f} s"


class TimerTable:
    """The timers of all processes, by process id and scope."""

    def __init__(self) -> None:
        self.timers: dict[tuple[int, str], Timer] = {}

    def take(self, request: FileTimerRequest, process_start: int, now: float, epoch: float) -> bool:
        """Set or release a timer.

        Args:
            request: Which.
            process_start: When its process started.
            now: The time by the monotonic clock.
            epoch: The same time in seconds since the epoch.

        Returns:
            False if there are so many timers that it can't be set.
        """
        key = request.worker_pid, request.scope_id
        if request.expiration_time < 0:
            self.timers.pop(key, None)
            return True
        if key not in self.timers and len(self.timers) >= MAX_TIMERS:
            return False
        # Both ends are of one machine, but its wall clock may be set while the timer runs.
        left_s = max(0.0, request.expiration_time - epoch)
        self.timers[key] = Timer(request, process_start, now, now + left_s)
        return True

    @property
    def next_expiry(self) -> float:
        """When the next timer expires, by the monotonic clock; ``math.inf`` for never."""
        return min((timer.expires_at for timer in self.timers.values()), default=math.inf)

    def take_expired(self, now: float) -> list[Stuck]:
        """Return the processes that are stuck, and forget all timers of each."""
        late: dict[int, list[Timer]] = {}
        for (pid, _), timer in self.timers.items():
            if timer.expires_at <= now:
                late.setdefault(pid, []).append(timer)
        self.timers = {key: timer for key, timer in self.timers.items() if key[0] not in late}
        return [
            Stuck(first, now - first.set_at)
            for timers in late.values()
            for first in [min(timers, key=lambda each: (each.request.signal <= 0, each.expires_at))]
        ]


def _digits(seconds: float) -> int:
    return 0 if seconds >= 10 else 1  # noqa: PLR2004  12 s, but 1.5 s
