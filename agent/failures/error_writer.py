"""Writes an error file, whatever its path leads to, and never waits for a reader.

A worker's error file does not exist before: it is written beside its place and moved there, so that
nobody reads half of it. What exists already was given to this process by somebody else. Kubernetes'
termination log is an empty file, mounted, which can't be replaced and of which no more is shown
than the last 4096 bytes. A pipe or a device gets what it takes at once.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import Any

from ..system.whole_writes import replace_file, write_all
from .error_record import json_of, shortened

MAX_GIVEN_FILE_BYTES = 4096
"""What is written to a file that was there already: Kubernetes shows no more than this."""


def write_error_file(path: str, data: dict[str, Any]) -> None:
    """Write an error record.

    Raises:
        OSError: It can't be written.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        replace_file(os.path.realpath(path), json_of(data).encode())
        return
    if stat.S_ISREG(status.st_mode) and status.st_size:
        with contextlib.suppress(OSError):  # it is mounted, or its folder can't be written to
            replace_file(os.path.realpath(path), json_of(data).encode())
            return
    _write_into(path, shortened(data, MAX_GIVEN_FILE_BYTES).encode())


def _write_into(path: str, text: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.ftruncate(fd, 0)
        write_all(fd, text)
    finally:
        os.close(fd)
