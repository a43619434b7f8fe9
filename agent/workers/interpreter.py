"""Tells whether a command is a Python interpreter that takes our hook, and what it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

_PYTHON_NAME = r"python(3(\.(?P<minor>\d+))?)?[a-z]*"
_OLDEST_MINOR = 8  # what our hook is written for
_ELF = b"\x7fELF"
# Letters of Python options that leave alone what the hook is built on: PYTHONPATH and site.
_HARMLESS = frozenset("bBdOPqRsuv")


def program_of(command: Sequence[str], search_path: str) -> Sequence[str]:
    """Return that part of a command which says what runs: interpreter, options, script or module.

    Args:
        command: A program and its arguments.
        search_path: Where programs are looked for.

    Raises:
        ValueError: It is no Python command that could be preloaded.
    """
    if not is_python(command[0], search_path):
        raise ValueError(f"{command[0]} is not a Python interpreter itself")
    words = iter(range(1, len(command)))
    for index in words:
        word = command[index]
        if word in ("-m", "-c") and index + 1 < len(command):
            return command[: index + 2]
        if word == "-" or not word.startswith("-"):
            return command[: index + 1]
        if word in ("-X", "-W"):
            next(words, None)
        elif not (word[:2] in ("-X", "-W") or (word[1:] and _HARMLESS.issuperset(word[1:]))):
            raise ValueError(f"the interpreter's option {word} does not go with it")
    raise ValueError("the command names neither a script nor a module")


def is_python(program: str, search_path: str) -> bool:
    """Return whether a program is CPython 3 itself; a script that starts it may do more."""
    if program == sys.executable:
        return True
    import re  # most workers run by the agent's own interpreter
    import shutil

    path = os.path.realpath(shutil.which(program, path=search_path) or "")
    match = re.fullmatch(_PYTHON_NAME, os.path.basename(path))
    if match is None or int(match["minor"] or _OLDEST_MINOR) < _OLDEST_MINOR:
        return False
    with open(path, "rb") as file:
        return file.read(len(_ELF)) == _ELF
