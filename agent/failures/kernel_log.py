"""Reads what the kernel has logged since a moment: kills for want of memory, crashes, GPU faults.

``/dev/kmsg`` gives one record a read: ``priority,number,microseconds since boot,flags;text``.
Not everybody may read it, and a container often has none: then nothing is known.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from ...rendezvous.named_tuple import NamedTuple

_MOST_RECORDS, _MOST_KEPT = 50_000, 10_000
_LONGEST_RECORD = 8_192
_PER_SECOND = 1e6
_CLOCKS_DIFFER_S = 2.0
"""The log's clock runs apart from the monotonic one: at 20 ppm, two seconds a day of uptime."""


class KernelRecord(NamedTuple):
    """One record of the kernel's log.

    Args:
        at_s: When, in seconds since boot.
    """

    at_s: float
    text: str


class KernelLog:
    """What the kernel logs from a moment on; each record is read once.

    Args:
        fd: A descriptor of the log, of which each read gives one record and none blocks; below 0:
            it can't be read, and is empty.
        moment_s: The moment, in seconds of ``time.monotonic``; ``-inf``: all that the descriptor
            gives is newer.
        read: Reads one record from a descriptor.
    """

    def __init__(
        self, fd: int, moment_s: float, read: Callable[[int, int], bytes] = os.read
    ) -> None:
        self._fd = fd
        self._since_s = moment_s - _CLOCKS_DIFFER_S
        self._read = read
        self._records: deque[KernelRecord] = deque(maxlen=_MOST_KEPT)

    def records(self) -> list[KernelRecord]:
        """Return what the kernel has logged since the moment."""
        for _ in range(_MOST_RECORDS if self._fd >= 0 else 0):
            try:
                raw = self._read(self._fd, _LONGEST_RECORD)
            except BrokenPipeError:  # records were overwritten meanwhile: the next one follows
                continue
            except OSError:  # the end, or a longer record than the kernel writes
                break
            if not raw:
                break
            record = parse(raw, self._since_s)
            if record is not None:
                self._records.append(record)
        return list(self._records)


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
