"""What worker processes of this host use, as psutil sees it from the command's own process."""

from __future__ import annotations

import time
from typing import NamedTuple


class Usage(NamedTuple):
    """What one process uses.

    Args:
        state: The kernel's word for what it does.
        cpu_percent: Of one CPU: since the last look, or since its start at the first one.
        memory_bytes: What it has in memory.
    """

    state: str
    cpu_percent: float
    memory_bytes: int


class Usages:
    """Looks at processes, and remembers the last look at each."""

    def __init__(self) -> None:
        self._last: dict[tuple[int, float], tuple[float, float]] = {}

    def of(self, pid: int) -> Usage | None:
        """Return what a process uses; None: it has ended, or can't be seen."""
        import psutil  # 26 ms, where a job has processes here

        try:
            process = psutil.Process(pid)
            with process.oneshot():
                times = process.cpu_times()
                started_s = process.create_time()
                state, memory = process.status(), process.memory_info().rss
        except psutil.Error:
            return None
        used_s, now_s = times.user + times.system, time.time()
        before_s, at_s = self._last.get((pid, started_s), (0.0, started_s))
        self._last[pid, started_s] = used_s, now_s
        percent = 100 * (used_s - before_s) / max(now_s - at_s, 0.01)
        return Usage(str(state), round(percent, 1), int(memory))
