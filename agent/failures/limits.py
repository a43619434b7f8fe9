"""Reads the limits that a process lived under, and what it used, while it isn't reaped.

A worker may have set its own limits, so elrun's say nothing of them. The kernel shows both until
the parent reaps the process.
"""

from __future__ import annotations

import os

from ...rendezvous.named_tuple import NamedTuple

_NAMES = {
    "Max cpu time": "cpu_s",
    "Max file size": "file_bytes",
    "Max processes": "processes",
    "Max open files": "open_files",
    "Max locked memory": "locked_bytes",
    "Max address space": "address_bytes",
}
_NAME_CHARS = 26
_MOST_BYTES = 1 << 16
_STAT_CPU = slice(11, 13)  # utime and stime, counted after the name


class Limits(NamedTuple):
    """What a process may use; None: as much as it wants, or not known.

    Args:
        cpu_s: Seconds of CPU time, after which it gets SIGXCPU.
        cpu_hard_s: Seconds of CPU time, after which it gets SIGKILL.
        processes: Processes and threads of its user.
        locked_bytes: Memory that it may lock.
        cpu_used_s: Seconds of CPU time that it has used.
    """

    cpu_s: int | None = None
    cpu_hard_s: int | None = None
    file_bytes: int | None = None
    processes: int | None = None
    open_files: int | None = None
    locked_bytes: int | None = None
    address_bytes: int | None = None
    cpu_used_s: float = 0.0


def limits_of(pid: int) -> Limits:
    """Return the limits of a process that may have ended, but is not reaped."""
    if pid <= 0:
        return Limits()
    return parse(_read(f"/proc/{pid}/limits"), _read(f"/proc/{pid}/stat"))


def parse(limits: str, stat: str = "") -> Limits:
    """Return what the kernel's two files about a process say.

    Args:
        limits: The text of ``/proc/PID/limits``.
        stat: That of ``/proc/PID/stat``.
    """
    found: dict[str, int] = {}
    for line in limits.splitlines():
        name = _NAMES.get(line[:_NAME_CHARS].strip())
        values = line[_NAME_CHARS:].split()
        if name is None or not values:
            continue
        if values[0].isdigit():
            found[name] = int(values[0])
        if name == "cpu_s" and values[1].isdigit():
            found["cpu_hard_s"] = int(values[1])
    ticks = stat.rpartition(")")[2].split()[_STAT_CPU]
    used = sum(int(each) for each in ticks if each.isdigit()) / os.sysconf("SC_CLK_TCK")
    return Limits(**found, cpu_used_s=used)


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, _MOST_BYTES).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(fd)
