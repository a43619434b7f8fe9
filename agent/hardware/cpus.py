"""How many CPUs this process may use: those that it may run on, and its cgroup's quota of time."""

from __future__ import annotations

import math
import os

CGROUPS = "/sys/fs/cgroup"
OWN_CGROUPS = "/proc/self/cgroup"


def allowed_cpus() -> int:
    """Return the number of CPUs on which this process may run."""
    return len(os.sched_getaffinity(0))


def cpu_quota(cgroups: str = CGROUPS, own: str = OWN_CGROUPS) -> float:
    """Return how many CPUs' time this process may use at once; infinity where there is no limit.

    A cgroup has no more than those above it, so the smallest quota on the way up counts. A
    container often has a view of its own in which the path of ``/proc/self/cgroup`` does not exist:
    there the mounted root is its cgroup.

    Args:
        cgroups: Where cgroup file systems are mounted.
        own: Names this process's cgroups.
    """
    quotas = [math.inf]
    for line in _read(own).splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        names = controllers.split(",")
        if "cpu" in names:
            roots = [f"{cgroups}/{controllers}", f"{cgroups}/cpu"]
            quotas += [_quota_of_version_1(folder) for folder in _way_up(roots, path)]
        elif not controllers:
            quotas += [_quota(_read(f"{folder}/cpu.max")) for folder in _way_up([cgroups], path)]
    return min(quotas)


def _way_up(roots: list[str], path: str) -> list[str]:
    """Return the folders from a cgroup to the mounted root."""
    parts = [part for part in path.split("/") if part]
    return [
        "/".join([root, *parts[:depth]]) for root in roots for depth in range(len(parts), -1, -1)
    ]


def _quota_of_version_1(folder: str) -> float:
    return _quota(f"{_read(f'{folder}/cpu.cfs_quota_us')} {_read(f'{folder}/cpu.cfs_period_us')}")


def _quota(text: str) -> float:
    """Return the CPUs' time that a quota and its period, in microseconds, amount to."""
    match text.split():
        case [quota, period] if all(word.isdecimal() and int(word) for word in (quota, period)):
            return int(quota) / int(period)
        case _:
            return math.inf


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
