"""Says where a Python program was, from the frames of a traceback or a stack."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Iterable
else:
    from .late_re import re

_FRAME = r'  File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>.+)'
_MOST_CHARS = 500
_LIBRARIES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
# Plain texts: `re` compiles each when it is first used.
_STANDARD_LIBRARY = r"[/\\]lib(?:64)?[/\\]python3\.\d+t?[/\\]"


def innermost_place(text: str) -> str:
    """Return the innermost frame, and the user's own line that led there; empty: there is none.

    Args:
        text: Frames as Python prints them, the innermost last: ``  File "a.py", line 3, in f``.
            Of several tracebacks, the last one counts.
    """
    frames: list[re.Match[str]] = []
    for line in reversed(text.splitlines()):
        match = re.fullmatch(_FRAME, line)
        if match is not None:
            frames.append(match)
        elif frames and line[:1] != " ":  # the title of this traceback
            break
    return place_among(frames)[:_MOST_CHARS]


def place_among(frames: Iterable[re.Match[str]]) -> str:
    """Return the innermost frame, and the user's own that led there: ``f (a.py, line 3)``.

    Args:
        frames: The innermost first, each with ``name``, ``file`` and ``line``.
    """
    found: list[str] = []
    for frame in frames:
        is_own = is_of_user(frame["file"])
        if is_own or not found:
            found.append(f"{frame['name']} ({frame['file']}, line {frame['line']})")
        if is_own:
            break
    return ", called in ".join(found)


def bare_place(words: str, text: str) -> str:
    """Return where an exception was raised that has no text; empty: it has one.

    Args:
        words: Its type and text.
        text: Its traceback.
    """
    return "" if ":" in words or " " in words else innermost_place(text)


def is_of_user(file: str) -> bool:
    """Return whether a file of source code is the user's own, not a library's."""
    if file.startswith("<") or any(each in file for each in _LIBRARIES):
        return False
    return re.search(_STANDARD_LIBRARY, file) is None
