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
SOCKET = "control"
"""The name of the agent's socket in the same folder."""
VERSION = 1
_WITH_VALUE = ("--check-hash-based-pycs",)


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
    if is_python_name(entrypoint):
        option, path = target_of([str(each) for each in args])
        if option:
            return ""
    elif os.sep not in path:  # sought in PATH
        return ""
    with contextlib.suppress(OSError):  # its working directory is gone
        return path and os.path.abspath(path)
    return ""


def is_python_name(program: str) -> bool:
    """Return whether a program is called as a Python interpreter is."""
    return os.path.basename(program).startswith("python")


def target_of(words: Sequence[str]) -> tuple[str, str]:
    """Return what Python runs: an option ("" for a script, "-m", "-c" or "-"), and its name.

    Args:
        words: The interpreter's arguments; if they name nothing to run, both are "".
    """
    rest = iter(words)
    for word in rest:
        if word == "--":
            return "", next(rest, "")
        if word in _WITH_VALUE:
            next(rest, None)
        elif word == "-" or not word.startswith("-"):
            return ("-", "") if word == "-" else ("", word)
        elif not word.startswith("--"):
            at = next((at for at, letter in enumerate(word) if letter in "cmXW"), len(word))
            option, value = word[at : at + 1], word[at + 1 :]  # "-mpdb" and "-um pdb" are the same
            if option and not value:
                value = next(rest, "")
            if option in ("c", "m"):
                return f"-{option}", value
    return "", ""
