"""Reads the ends of the log files that a failed rank has left, for the page.

A report may come from anywhere, so only files are read that have the names of elrun's own log
files, in a folder as elrun makes them.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator

from ...rendezvous.named_tuple import NamedTuple
from ..terminal.console import printable

MOST_BYTES = 64 << 10
MOST_LINE_CHARS = 2_000

_OWN = re.compile(r"attempt_[0-9]+/[0-9]+/(?:error\.json|stdout\.log|stderr\.log)$")
_NAMES = ("stderr.log", "stdout.log")


class LogEnd(NamedTuple):
    """The end of a log file.

    Args:
        text: Its last lines.
        is_whole: Whether that is all of it.
    """

    path: str
    text: str
    is_whole: bool


def log_ends(file: str) -> Iterator[LogEnd]:
    """Yield the ends of a rank's log files.

    Args:
        file: Its error file or log file, of the report.
    """
    if not _OWN.search(file) or not os.path.isabs(file):
        return
    folder = os.path.dirname(file)
    for name in _NAMES:
        with contextlib.suppress(OSError, ValueError):  # ValueError: a path with a null byte
            end = _end_of(os.path.join(folder, name))
            if end.text.strip():
                yield end


def _end_of(path: str) -> LogEnd:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(22, "it is no regular file")
        start = max(0, status.st_size - MOST_BYTES)
        file.seek(start)
        data = file.read(MOST_BYTES)
    if start:
        head, newline, rest = data.partition(b"\n")
        data = rest if newline and len(head) < len(data) - 1 else data
    lines = data.decode(errors="backslashreplace").replace("\r\n", "\n").split("\n")
    return LogEnd(path, printable("\n".join(map(_cut, lines))), is_whole=start == 0)


def _cut(line: str) -> str:
    if len(line) <= MOST_LINE_CHARS:
        return line
    return f"{line[:MOST_LINE_CHARS]} … ({len(line) - MOST_LINE_CHARS} more characters)"
