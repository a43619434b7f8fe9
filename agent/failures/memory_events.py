"""Watches the kernel: which processes it kills because memory runs out, and what it logs.

The count, of this cgroup or the host, is taken at the start of an attempt and compared after a
failure: the kernel raises it before it sends SIGKILL. Both versions of cgroups are known. A
container often has a view of its own in which the path of ``/proc/self/cgroup`` does not exist:
there the mounted root is its cgroup.

Where an attempt begins, a descriptor is put at the end of the log. After a failure, only what has
come since has to be read: the whole log takes ten milliseconds, and more on a large host.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time

from ...rendezvous.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .kernel_log import KernelLog

CGROUPS = "/sys/fs/cgroup"
OWN_CGROUPS = "/proc/self/cgroup"
HOST_COUNTERS = "/proc/vmstat"
KERNEL_LOG = "/dev/kmsg"

_LOG_DEVICE = os.makedev(1, 11)
"""Linux's number for the log; in a container another file may stand there, such as a terminal."""

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


def open_kernel_log(path: str = KERNEL_LOG) -> int:
    """Return a descriptor of the log, of which each read gives one record, the oldest first.

    Raises:
        OSError: It can't be opened, or is none.
    """
    found = os.stat(path)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _LOG_DEVICE:
        raise FileNotFoundError(path)
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


class KernelWatch:
    """What the kernel counts and logs while an attempt runs.

    Args:
        keeps_log: Whether the log is opened where an attempt begins, and stays open: workers that
            are forked without exec must not find its descriptor. Else it is opened, and read from
            its beginning, when it is needed.
        open_log: Opens the log so that no read blocks.
    """

    def __init__(
        self, *, keeps_log: bool = False, open_log: Callable[[], int] = open_kernel_log
    ) -> None:
        self.counts = MemoryEvents(0.0)
        self._keeps_log = keeps_log
        self._open_log = open_log
        self._fd = -1
        self._is_at_end = False  # where the attempt began, the log was skipped to its end
        self._log: KernelLog | None = None

    def begin(self) -> None:
        """Take note that an attempt begins."""
        self.counts = MemoryEvents.now()
        self._log, self._is_at_end = None, False
        if not self._keeps_log:
            self.end()
            return
        self._open()
        if self._fd >= 0:
            with contextlib.suppress(OSError):  # then it is read from where it stands
                os.lseek(self._fd, 0, os.SEEK_END)
                self._is_at_end = True

    @property
    def log(self) -> KernelLog:
        """The kernel's log since then, nothing of which is read by a start."""
        if self._log is None:
            from .kernel_log import KernelLog  # failures only

            self._open()
            # The clocks of both may be a minute apart: only what may be older is asked for its age.
            self._log = KernelLog(self._fd, float("-inf") if self._is_at_end else self.counts.at_s)
        return self._log

    def end(self) -> None:
        """Give the log's descriptor back."""
        fd, self._fd, self._log, self._is_at_end = self._fd, -1, None, False
        if fd >= 0:
            os.close(fd)

    def _open(self) -> None:
        if self._fd < 0:
            with contextlib.suppress(OSError):
                self._fd = self._open_log()


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
