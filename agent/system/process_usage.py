"""What a process uses, read from the two lines that the kernel has for it."""

from __future__ import annotations

import os

from ...rendezvous.named_tuple import NamedTuple

# In /proc/PID/stat after the command's name, see proc(5).
_STATE, _UTIME, _AFTER_TIMES, _STARTED = 0, 11, 15, 19
_RESIDENT = 1  # in /proc/PID/statm
_MOST_BYTES = 4096
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ProcessUsage(NamedTuple):
    """What a process uses.

    Args:
        cpu_s: Seconds of CPU time, with that of its children that have ended.
        memory_bytes: What it has in memory, shared pages as well.
        started_ticks: When it was started, in the kernel's ticks since the boot: another process
            with the same id has another one.
    """

    cpu_s: float
    memory_bytes: int
    started_ticks: int


def usage_of_process(pid: int) -> ProcessUsage | None:
    """Return what a process uses; None if it has ended."""
    try:
        fields = _read_line(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        # The memory in stat leaves out what each CPU has not handed over yet: megabytes, on many.
        pages = _read_line(f"/proc/{pid}/statm").split()
    except OSError:
        return None
    if len(fields) <= _STARTED or len(pages) <= _RESIDENT or fields[_STATE] in (b"Z", b"X"):
        return None
    ticks = sum(map(int, fields[_UTIME:_AFTER_TIMES]))
    return ProcessUsage(
        round(ticks / _TICKS_PER_S, 2),
        int(pages[_RESIDENT]) * _PAGE_BYTES,
        int(fields[_STARTED]),
    )


def _read_line(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _MOST_BYTES)
    finally:
        os.close(fd)
