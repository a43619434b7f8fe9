"""Finds tracebacks that Python prints of exceptions which have ended nothing.

Python ignores what ``__del__`` raises, and asyncio what a callback raises, or a task that nobody
has awaited. All are printed, often at the end of a program that ends for another reason.
"""

from __future__ import annotations

from ...rendezvous.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
else:
    from .late_re import re

EXCEPTION = r"[A-Za-z_][\w.]*(?:: .*|:)?"
CHAINED = (
    "The above exception was the direct cause of the following exception:",
    "During handling of the above exception, another exception occurred:",
)
_TITLE = "Traceback (most recent call last):"
_IGNORED = r"Exception ignored (?:in|while [\w ]{1,40}):? ?(?P<name>.{0,200}?)(?: at 0x\w+)?>?:?"
_NEVER_RETRIEVED = r".{0,200}\b(?:Task|Future) exception was never retrieved"
_CALLBACK = r".{0,200}\bException in callback (?P<name>[^( ]{1,80}).*"
_CREATED = "source_traceback: Object created at (most recent call last):"
_HANDLE = "handle: <"
_FUTURE = r"future: <(?P<kind>Task|Future)\b(?:[^']{0,80} name='(?P<name>[^']{1,80})')?.*"


class Aside(NamedTuple):
    """A traceback that may explain an end, and may not.

    Args:
        words: The exception, and what is certain of it, in one line; empty: there is none.
        text: The traceback.
    """

    words: str = ""
    text: str = ""


def without_asides(lines: list[str]) -> tuple[list[str], Aside]:
    """Return the lines without such tracebacks, and the last of these.

    Args:
        lines: What a program has printed.
    """
    last, kept = Aside(), list(lines)
    for start in range(len(lines) - 1, 0, -1):
        if lines[start] != _TITLE:
            continue
        first, remark = _remark_above(lines, start)
        if not remark or (end := _end_of_chain(lines, start)) < 0:
            continue
        if not last.words:
            last = Aside(f"{lines[end]} ({remark})", "\n".join(lines[start : end + 1]))
        del kept[first : end + 1]
    return kept, last


def _remark_above(lines: list[str], start: int) -> tuple[int, str]:
    """Return where the words begin that stand above a traceback, and what they say of it."""
    if ignored := re.fullmatch(_IGNORED, lines[start - 1]):
        return start - 1, f"Python ignored it in {ignored['name'].replace('<', '')}"
    last = _end_above(lines, start)
    if last < 1:
        return start, ""
    future = re.fullmatch(_FUTURE, lines[last])
    if future and re.fullmatch(_NEVER_RETRIEVED, lines[last - 1]):
        name = f" {future['name']!r}" if future["name"] else ""
        what = f"in the asyncio {future['kind'].lower()}{name}, whose result nobody took"
        return last - 1, what
    callback = re.fullmatch(_CALLBACK, lines[last - 1])
    if callback and lines[last].startswith(_HANDLE):
        return last - 1, f"in the asyncio callback {callback['name']!r}, which ends nothing"
    return start, ""


def _end_above(lines: list[str], start: int) -> int:
    """Return where asyncio's words about an object end, above a traceback.

    In its debug mode the stack that made the object stands between them.
    """
    last = start - 1
    while last > 0 and lines[last].startswith("  "):
        last -= 1
    return last - 1 if lines[last] == _CREATED else start - 1


def _end_of_chain(lines: list[str], start: int) -> int:
    """Return where the last exception of a chain stands that begins here; -1: it is cut off."""
    while True:
        end = next((at for at in range(start + 1, len(lines)) if lines[at][:1].strip()), -1)
        if end < 0 or not re.fullmatch(EXCEPTION, lines[end]):
            return -1
        after = [at for at in range(end + 1, min(end + 5, len(lines))) if lines[at].strip()]
        is_chained = len(after) > 1 and lines[after[0]] in CHAINED and lines[after[1]] == _TITLE
        if not is_chained:
            return end
        start = after[1]
