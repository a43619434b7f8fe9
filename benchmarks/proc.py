"""Reads what the kernel knows of processes."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def is_alive(pid: int) -> bool:
    """Return whether the process runs; a zombie doesn't."""
    try:
        return _stat(pid)[0] not in "ZX"
    except OSError:
        return False


def children_of(pid: int) -> set[int]:
    """Return the pids of its children, by whichever of its threads."""
    return {int(child) for task in _tasks(pid) for child in (task / "children").read_text().split()}


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used, in hundredths; also of a zombie."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def started_s(pid: int) -> float:
    """Return when a process was forked, by the monotonic clock, in hundredths."""
    asleep_s = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return int(_stat(pid)[19]) / _TICKS_PER_S - asleep_s


def scheduled_s(pid: int) -> float:
    """Return the CPU seconds that the threads which a process has now have used, exactly."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in _tasks(pid)) / 1e9


def switches(pid: int) -> int:
    """Return how often the threads that a process has now were put to sleep or interrupted."""
    kinds = ("voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:")
    return sum(_field(task / "status", kind) for task in _tasks(pid) for kind in kinds)


def resident_mb(pid: int) -> float:
    """Return the memory that is mapped into a process, in MB, shared pages in full."""
    return _field(Path("/proc", str(pid), "status"), "VmRSS:") * 1.024e-3


def proportional_mb(pid: int) -> float:
    """Return the memory that a process stands for, in MB: shared pages divided by their users."""
    return _field(Path("/proc", str(pid), "smaps_rollup"), "Pss:") * 1.024e-3


def _tasks(pid: int) -> Iterator[Path]:
    return Path("/proc", str(pid), "task").iterdir()


def _field(path: Path, name: str) -> int:
    lines = map(str.split, path.read_text().splitlines())
    return next(int(words[1]) for words in lines if words and words[0] == name)


def _stat(pid: int) -> list[str]:
    return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
