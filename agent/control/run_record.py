"""``run.json`` in the folder of a run: what those need to know that look for a run.

It tells which run this is, and where the log files of each attempt are, also when the agent has
gone or does not answer.
"""

from __future__ import annotations

import contextlib
import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

RECORD = "run.json"
VERSION = 1
_OF_NO_FILE = ("-", "-c", "-m")
"""Options of Python's in the place of a script."""


def record_text(about: Mapping[str, Any], attempts: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the content of the file.

    Args:
        about: What is known of the run from the start.
        attempts: Ranks and log files of each attempt.
    """
    return json.dumps({"version": VERSION, **about, "attempts": list(attempts)}).encode() + b"\n"


def script_of(entrypoint: object, args: Sequence[object]) -> str:
    """Return the path of the script or the program that is run; "" if that is no file.

    Args:
        entrypoint: A function, or a command: where that is an interpreter, the script counts.
        args: The entrypoint's arguments.
    """
    if not isinstance(entrypoint, str):
        return ""
    path = entrypoint
    if os.path.basename(entrypoint).startswith("python"):
        words = [str(each) for each in args]
        path = next((each for each in words if not each.startswith("-") or each in _OF_NO_FILE), "")
    elif os.sep not in path:  # sought in PATH
        return ""
    with contextlib.suppress(OSError):  # its working directory is gone
        return "" if not path or path in _OF_NO_FILE else os.path.abspath(path)
    return ""
