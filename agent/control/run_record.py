"""``run.json`` in the folder of a run: what those need to know that look for a run.

It tells which run this is, and where the log files of each attempt are, also when the agent has
gone or does not answer.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

RECORD = "run.json"
VERSION = 1


def record_text(about: Mapping[str, Any], attempts: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the content of the file.

    Args:
        about: What is known of the run from the start.
        attempts: Ranks and log files of each attempt.
    """
    return json.dumps({"version": VERSION, **about, "attempts": list(attempts)}).encode() + b"\n"


def write_whole(path: str, data: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, and no half of it.

    Raises:
        OSError: It can't be written.
    """
    scratch = f"{path}.new"
    fd = os.open(
        scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
    finally:
        os.close(fd)
    os.rename(scratch, path)
