"""Shortens a traceback for a screen: a long message loses its middle, and the frames stay.

An exception's text may have thousands of lines: a table, a diff, a compiler's output. The frames
say where it happened, so the messages are shortened first, the longest one first; frames only if
they are too many by themselves. What is left out is counted, and the file that has it is named.
"""

from __future__ import annotations

import re

from ...rendezvous.named_tuple import NamedTuple

MOST_LINES = 200
MOST_CHARS = 16_000

_MOST_IN_A_LINE = 2_000
_SHORT_MESSAGE = 12
_FIRST_FRAMES = 20
_BEGIN = 0.6
_LEAST_LINES = 25

_PREFIX = re.compile(r"(?:  [|+] )*")
_TITLE = re.compile(r"(?:\+ Exception Group )?Traceback \(most recent call last\):")
_END_OF_MESSAGE = re.compile(
    r"The above exception was the direct cause|During handling of the above exception"
    r"|(?:\+ Exception Group )?Traceback \(most recent call last\):|\+-[-+]"
)


class _Part(NamedTuple):
    """Lines of one kind.

    Args:
        is_message: Whether an exception's text stands there, not frames.
    """

    lines: list[str]
    is_message: bool


def shortened_traceback(
    text: str, file: str = "", most_lines: int = MOST_LINES, most_chars: int = MOST_CHARS
) -> str:
    """Return a traceback, or other last lines, of limited length.

    Args:
        file: Where all of it stands; empty: nowhere.
        most_lines: How many lines it may have.
        most_chars: How many characters it may have.
    """
    whole = [_clipped(line) for line in text.strip("\n").split("\n")]
    where = f"; they stand in {file}" if file else ""
    while True:
        shown = "\n".join(_fitted(whole, most_lines, where))
        if len(shown) <= most_chars:
            return shown
        if most_lines <= _LEAST_LINES:
            return shown[: most_chars // 4] + "\n...\n" + shown[-most_chars * 3 // 4 + 5 :]
        most_lines = max(_LEAST_LINES, most_lines * 3 // 4)


def _fitted(lines: list[str], most_lines: int, where: str) -> list[str]:
    parts = _parts_of(lines)
    excess = sum(len(part.lines) for part in parts) - most_lines
    messages = sorted(
        (at for at, part in enumerate(parts) if part.is_message),
        key=lambda at: -len(parts[at].lines),
    )
    for at in messages:
        kept = max(_SHORT_MESSAGE, len(parts[at].lines) - max(0, excess) - 1)
        if excess > 0 and len(parts[at].lines) > kept + 1:
            excess -= len(parts[at].lines) - kept - 1
            parts[at] = _Part(
                _without_middle(parts[at].lines, kept, round(kept * _BEGIN), where),
                is_message=True,
            )
    all_lines = [line for part in parts for line in part.lines]
    if excess <= 0:
        return all_lines
    return _without_middle(all_lines, most_lines, min(_FIRST_FRAMES, most_lines // 2), where)


def _parts_of(lines: list[str]) -> list[_Part]:
    """Return the lines as frames and messages in turn; without a traceback they are all frames."""
    parts: list[_Part] = [_Part([], is_message=False)]
    is_in_stack = is_in_message = False
    for line in lines:
        bare = line[_end_of_prefix(line) :]
        if _END_OF_MESSAGE.match(bare.lstrip()):
            is_in_message = False
            is_in_stack = bool(_TITLE.match(bare.lstrip()))
        elif is_in_stack and bare[:2] != "  " and bare.strip():
            is_in_stack, is_in_message = False, True
        if parts[-1].is_message is not is_in_message:
            parts.append(_Part([], is_in_message))
        parts[-1].lines.append(line)
    return parts


def _end_of_prefix(line: str) -> int:
    found = _PREFIX.match(line)
    return found.end() if found else 0


def _without_middle(lines: list[str], kept: int, first: int, where: str) -> list[str]:
    last = kept - first
    left_out = len(lines) - kept
    mark = f"... {left_out} lines are left out here{where} ..."
    return [*lines[:first], mark, *(lines[-last:] if last else [])]


def _clipped(line: str) -> str:
    if len(line) <= _MOST_IN_A_LINE:
        return line
    first = int(_MOST_IN_A_LINE * _BEGIN)
    left_out = len(line) - _MOST_IN_A_LINE
    rest = line[len(line) - (_MOST_IN_A_LINE - first) :]
    return f"{line[:first]} ... {left_out} characters are left out here ... {rest}"
