"""Reads what the kernel has logged since a moment: kills for want of memory, crashes, GPU faults.

``/dev/kmsg`` gives one record a read: ``priority,number,microseconds since boot,flags;text``.
Not everybody may read it, and a container often has none: then nothing is known.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from ...rendezvous.named_tuple import NamedTuple

KERNEL_LOG = "/dev/kmsg"

_MOST_RECORDS = 50_000
_LONGEST_RECORD = 8_192
_CLOCKS_DIFFER_S = 2.0
"""The log's clock runs a little apart from the monotonic one."""


class KernelRecord(NamedTuple):
    """One record of the kernel's log.

    Args:
        at_s: When, in seconds since boot.
        text: Its line.
    """

    at_s: float
    text: str


def records_since(moment_s: float, path: str = KERNEL_LOG) -> list[KernelRecord]:
    """Return what the kernel has logged since a moment of the monotonic clock; empty: unknown.

    Args:
        moment_s: The moment, in seconds of ``time.monotonic``.
        path: The log.
    """
    return [
        record
        for record in map(parse, _raw_records(path))
        if record is not None and record.at_s >= moment_s - _CLOCKS_DIFFER_S
    ]


def parse(raw: bytes) -> KernelRecord | None:
    """Return a record of ``/dev/kmsg``, or None for what is none."""
    head, _, rest = raw.partition(b";")
    fields = head.split(b",")
    if len(fields) < 3 or not fields[2].isdigit():  # noqa: PLR2004  priority, number, time
        return None
    text = rest.partition(b"\n")[0].decode(errors="replace")
    return KernelRecord(int(fields[2]) / 1e6, text)


def lines_about(pid: int, records: Iterable[KernelRecord]) -> Iterator[str]:
    """Return what the log has of one process: its crash, or why it was killed.

    Args:
        pid: Its process id; that of the host, where this process sees those.
        records: The log.
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


def _raw_records(path: str) -> Iterator[bytes]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        for _ in range(_MOST_RECORDS):
            try:
                raw = os.read(fd, _LONGEST_RECORD)
            except BrokenPipeError:  # records were overwritten meanwhile: the next one follows
                continue
            except OSError:  # the end, or a longer record than the kernel writes
                return
            if not raw:
                return
            yield raw
    finally:
        os.close(fd)
