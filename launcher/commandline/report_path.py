"""The path of ``--report``, which may name the node and the process."""

from __future__ import annotations

import os
import re

from .arguments import listed, nearest_word

NAMES = ("hostname", "pid")
"""What the path may name, as ``${hostname}``."""

_BRACED = re.compile(r"\$\{([^}/]*)(\}?)")


def check_report_path(text: str) -> None:
    """Make sure that a path can be that of a file, and that every ``${name}`` is known.

    Raises:
        ValueError: It can't, or one is not.
    """
    if not text.strip():
        raise ValueError("give a path")
    if text == "-":
        raise ValueError("standard output is the workers'; give a file (./- for one of that name)")
    if text.endswith("/") or os.path.basename(text) in (".", ".."):
        raise ValueError("this is a folder; give the path of a file")
    for found in _BRACED.finditer(text):
        name, brace = found.groups()
        if not brace:
            raise ValueError(f"{found.group()} has no closing brace")
        if name not in NAMES:
            near = nearest_word(name, NAMES)
            known = listed([f"${{{each}}}" for each in NAMES])
            meant = f"; did you mean ${{{near}}}?" if near else ""
            raise ValueError(f"{found.group()} is not known; give {known}{meant}")


def filled_in(path: str) -> str:
    """Return the path of this process's report."""
    return path.replace("${hostname}", os.uname().nodename).replace("${pid}", str(os.getpid()))
