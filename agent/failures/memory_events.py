"""Counts the processes that the kernel killed because memory ran out: in this cgroup, or the host.

The count is taken at the start of an attempt and compared after a failure: the kernel raises it
before it sends SIGKILL. Both versions of cgroups are known. A container often has a view of its own
in which the path of ``/proc/self/cgroup`` does not exist: there the mounted root is its cgroup.
"""

from __future__ import annotations

import os
import time

from ...rendezvous.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .kernel_log import KernelLog

CGROUPS = "/sys/fs/cgroup"
OWN_CGROUPS = "/proc/self/cgroup"
HOST_COUNTERS = "/proc/vmstat"

_COUNTER = b"oom_kill "
_MOST_BYTES = 65_536
_UNLIMITED = 1 << 60  # version 1 calls "no limit" the highest multiple of a page


class MemoryEvents(NamedTuple):
    """The kernel's count of processes that it killed for want of memory.

    Args:
        at_s: When it was taken, in seconds of ``time.monotonic``.
        source: The file that was read; empty where the kernel keeps no count that can be read.
    """

    at_s: float
    source: str = ""
    kills: int = 0

    @classmethod
    def now(
        cls, cgroups: str = CGROUPS, own: str = OWN_CGROUPS, host: str = HOST_COUNTERS
    ) -> MemoryEvents:
        """Return the count of this process's memory cgroup; where it has none, that of the host.

        Args:
            cgroups: Where cgroup file systems are mounted.
            own: Names this process's cgroups.
        """
        at_s = time.monotonic()
        for path in (*_candidates(_read(own), cgroups), host):
            count = _count_in(_read(path))
            if count is not None:
                return cls(at_s, path, count)
        return cls(at_s)

    @property
    def is_of_cgroup(self) -> bool:
        """Whether the count is that of a cgroup, not of the whole host."""
        return os.path.basename(self.source).startswith("memory.")

    def kills_since(self) -> int | None:
        """Return how many processes were killed for want of memory since this count was taken.

        Returns:
            None where the kernel does not tell.
        """
        count = _count_in(_read(self.source)) if self.source else None
        return None if count is None else max(0, count - self.kills)

    def limit_bytes(self) -> int | None:
        """Return the cgroup's limit of memory, or None where it has none."""
        return self._figure("memory.max", "memory.limit_in_bytes")

    def peak_bytes(self) -> int | None:
        """Return the most memory that the cgroup has held at once, where the kernel keeps it."""
        return self._figure("memory.peak", "memory.max_usage_in_bytes")

    def _figure(self, *names: str) -> int | None:
        if not self.is_of_cgroup:
            return None
        folder = os.path.dirname(self.source)
        for name in names:
            text = _read(os.path.join(folder, name)).strip()
            if text.isdigit():
                return int(text) if int(text) < _UNLIMITED else None
        return None


class KernelWatch:
    """What the kernel counts and logs while an attempt runs.

    Args:
        keeps_log: Whether the log's descriptor stays from attempt to attempt, so that what is read
            once is not read again: workers that are forked without exec must not find it.
    """

    def __init__(self, *, keeps_log: bool = False) -> None:
        self.counts = MemoryEvents(0.0)
        self._keeps_log = keeps_log
        self._log: KernelLog | None = None

    def begin(self) -> None:
        """Take note that an attempt begins."""
        self.counts = MemoryEvents.now()
        log = self._log
        if log is None or not (self._keeps_log and log.go_on_from(self.counts.at_s)):
            self.end()

    @property
    def log(self) -> KernelLog:
        """The kernel's log since then, nothing of which is read by a start."""
        if self._log is None:
            from .kernel_log import KernelLog  # not at a start

            self._log = KernelLog(self.counts.at_s)
        return self._log

    def end(self) -> None:
        """Give the log's descriptor back."""
        if self._log is not None:
            self._log.close()
            self._log = None


def _candidates(own_cgroups: bytes, root: str) -> list[str]:
    """Return the files that may have the count of this process's cgroup, the likeliest first."""
    found = []
    for line in own_cgroups.decode(errors="surrogateescape").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if "memory" in controllers.split(","):
            mounted, name = f"{root}/memory", "memory.oom_control"
        elif not controllers:
            mounted, name = root, "memory.events"
        else:
            continue
        found += [f"{mounted}{path.rstrip('/')}/{name}", f"{mounted}/{name}"]
    return found


def _count_in(text: bytes) -> int | None:
    for line in text.splitlines():
        if line.startswith(_COUNTER) and line[len(_COUNTER) :].isdigit():
            return int(line[len(_COUNTER) :])
    return None


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, _MOST_BYTES)
    except OSError:
        return b""
    finally:
        os.close(fd)
