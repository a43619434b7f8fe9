"""Says where a Python program was, from the frames of a traceback or a stack."""

from __future__ import annotations

import re

from .stack_places import is_of_user

_FRAME = r'  File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>.+)'
_MOST_CHARS = 500


def innermost_place(text: str) -> str:
    """Return the innermost frame, and the user's own line that led there; empty: there is none.

    Args:
        text: Frames as Python prints them, the innermost last: ``  File "a.py", line 3, in f``.
            Of several tracebacks, the last one counts.
    """
    found: list[str] = []
    for line in reversed(text.splitlines()):
        match = re.fullmatch(_FRAME, line)
        if match is None and found and line[:1] != " ":  # the title of this traceback
            break
        if match is None or (found and not is_of_user(match["file"])):
            continue
        found.append(f"{match['name']} ({match['file']}, line {match['line']})")
        if is_of_user(match["file"]):
            break
    return ", called in ".join(found)[:_MOST_CHARS]


def bare_place(words: str, text: str) -> str:
    """Return where an exception was raised that has no text; empty: it has one.

    Args:
        words: Its type and text.
        text: Its traceback.
    """
    return "" if ":" in words or " " in words else innermost_place(text)
