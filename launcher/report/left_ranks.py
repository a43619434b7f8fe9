"""Says what ranks have left whose agent was killed: its report has no word of how they ended."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from .logs import log_ends

_KILLED = "killed with its agent"


def ranks_left_by(report: Mapping[str, Any], record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the ranks of the last attempt, with the last line that each has printed to a file.

    Args:
        report: The report of the agent, as it was when the agent was killed.
        record: What ``run.json`` says, which names the log files.
    """
    if not report["attempts"] or report["attempts"][-1]["ended_at"]:
        return []
    files = dict(_files_in(record))
    return [
        {
            "global_rank": worker["rank"],
            "local_rank": worker["local_rank"],
            "node": report["node"],
            "pid": worker["pid"] or 0,
            "state": _KILLED,
            "exitcode": None,
            "after_s": None,
            "file": files.get(worker["rank"], ""),
            "words": _last_line_of(files.get(worker["rank"], "")),
        }
        for worker in report["attempts"][-1]["workers"]
    ]


def _files_in(record: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield, for each rank of the last attempt, the log file that was written to last."""
    with contextlib.suppress(KeyError, TypeError, IndexError, AttributeError):  # it is not elrun's
        for rank in record["attempts"][-1]["ranks"]:
            paths = filter(None, (rank.get("stderr"), rank.get("stdout")))
            yield int(rank["rank"]), max(paths, key=_written_at, default="")


def _written_at(path: str) -> float:
    with contextlib.suppress(OSError, ValueError):  # ValueError: a path with a null byte
        status = os.stat(path)
        return status.st_mtime if status.st_size else 0.0
    return -1.0


def _last_line_of(file: str) -> str:
    for end in log_ends(file):
        if end.path == file:
            return end.text.rstrip("\n").rpartition("\n")[2]
    return ""
