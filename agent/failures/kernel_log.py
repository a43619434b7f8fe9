"""Reads what the kernel has logged since a moment: kills for want of memory, crashes, GPU faults.

``/dev/kmsg`` gives one record a read: ``priority,number,microseconds since boot,flags;text``.
Not everybody may read it, and a container often has none: then nothing is known.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from ...rendezvous.named_tuple import NamedTuple

KERNEL_LOG = "/dev/kmsg"

_DEVICE = os.makedev(1, 11)
"""Linux's number for it; in a container another file may stand there, such as a terminal."""

_MOST_RECORDS, _MOST_KEPT = 50_000, 10_000
_LONGEST_RECORD = 8_192
_PER_SECOND = 1e6
_CLOCKS_DIFFER_S = 2.0
"""The log's clock runs a little apart from the monotonic one."""


class KernelRecord(NamedTuple):
    """One record of the kernel's log.

    Args:
        at_s: When, in seconds since boot.
    """

    at_s: float
    text: str


def open_kernel_log(path: str = KERNEL_LOG) -> int:
    """Return a descriptor of the log, of which each read gives one record, the oldest first.

    Raises:
        OSError: It can't be opened, or is none.
    """
    found = os.stat(path)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _DEVICE:
        raise FileNotFoundError(path)
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


class KernelLog:
    """What the kernel logs from a moment on; each record is read once.

    To read the whole log takes milliseconds, and tens of them on a large host. So an agent reads it
    piece by piece while the workers of its first attempt run, and later only what has come since.
    What it can't read is empty.

    Args:
        moment_s: The moment, in seconds of ``time.monotonic``.
        open_log: Opens the log so that no read blocks.
        read: Reads one record from a descriptor.
    """

    def __init__(
        self,
        moment_s: float,
        open_log: Callable[[], int] = open_kernel_log,
        read: Callable[[int, int], bytes] = os.read,
    ) -> None:
        self._since_s = moment_s - _CLOCKS_DIFFER_S
        self._open_log = open_log
        self._read = read
        self._fd: int | None = None
        self._records: deque[KernelRecord] = deque(maxlen=_MOST_KEPT)

    def read_on(self, most: int = _MOST_RECORDS) -> bool:
        """Read what has not been read yet.

        Args:
            most: The most records that are read now.

        Returns:
            Whether nothing is left to be read.
        """
        if self._fd is None:
            self._fd = self._open()
        if self._fd < 0:
            return True
        for _ in range(most):
            try:
                raw = self._read(self._fd, _LONGEST_RECORD)
            except BrokenPipeError:  # records were overwritten meanwhile: the next one follows
                continue
            except OSError:  # the end, or a longer record than the kernel writes
                return True
            if not raw:
                return True
            record = parse(raw, self._since_s)
            if record is not None:
                self._records.append(record)
        return False

    def records(self) -> list[KernelRecord]:
        """Return what the kernel has logged since the moment."""
        self.read_on()
        return list(self._records)

    def go_on_from(self, moment_s: float) -> bool:
        """Forget what was logged before a later moment; return whether the log is open.

        Args:
            moment_s: The moment, in seconds of ``time.monotonic``.
        """
        self._since_s = moment_s - _CLOCKS_DIFFER_S
        while self._records and self._records[0].at_s < self._since_s:
            self._records.popleft()
        return self._fd is not None and self._fd >= 0

    def close(self) -> None:
        """Read no more."""
        if self._fd is not None and self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _open(self) -> int:
        try:
            return self._open_log()
        except OSError:
            return -1


def parse(raw: bytes, since_s: float = 0.0) -> KernelRecord | None:
    """Return a record of ``/dev/kmsg``, or None for what is none.

    Args:
        raw: What one read has returned.
        since_s: Seconds since boot; what is older is none.
    """
    head, _, rest = raw.partition(b";")
    _priority, _number, at, *_ = [*head.split(b","), b"", b""]
    if not at.isdigit() or int(at) < since_s * _PER_SECOND:
        return None
    text = rest.partition(b"\n")[0].decode(errors="replace")
    return KernelRecord(int(at) / _PER_SECOND, text)


def lines_about(pid: int, records: Iterable[KernelRecord]) -> Iterator[str]:
    """Return what the log has of one process: its crash, or why it was killed.

    Args:
        pid: Its process id; that of the host, where this process sees those.
    """
    signs = (f"[{pid}]", f"Killed process {pid} ")
    for record in records:
        if any(sign in record.text for sign in signs):
            yield record.text


def gpu_faults(records: Iterable[KernelRecord]) -> Iterator[str]:
    """Return the faults of NVIDIA GPUs that the driver has logged (``Xid``)."""
    for record in records:
        if "NVRM: Xid" in record.text:
            yield record.text[record.text.index("Xid") :]
