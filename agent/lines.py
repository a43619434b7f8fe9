"""Cuts a stream of bytes into whole lines, in bounded memory.

A line ends with a newline, or with a lone carriage return, which is how progress bars end each of
their states: so a bar is shown while it grows, one state behind, and the states of two workers
don't run into each other. A line that is too long to be held is not kept: the cutter says where in
the stream it lies, for a reader who has the stream in a file, or breaks it where there is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

MAX_HELD_BYTES = 64 * 1024

_LONE_RETURN = re.compile(rb"\r(?!\n)")


class LongLine(NamedTuple):
    """A line that was not held: where in the stream it lies, its end-of-line included.

    Args:
        start: Bytes of the stream before it.
        stop: Bytes of the stream up to its end.
    """

    start: int
    stop: int


class LineCutter:
    """Collects the bytes of one stream until they make whole lines.

    Args:
        max_held_bytes: The most that is kept of an unfinished line.
    """

    def __init__(self, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self._max_held_bytes = max_held_bytes
        self._held = b""
        self._position = 0
        self._long_start: int | None = None

    def feed(self, chunk: bytes, *, referable: bool) -> list[bytes | LongLine]:
        """Take the next bytes of the stream, and return what is whole, in the stream's order.

        Args:
            chunk: Any number of bytes.
            referable: Whether somebody keeps the stream, so that a line too long may be described
                as a `LongLine`; else it is broken: what is there becomes a line.

        Returns:
            Bytes that are one or more whole lines, and long lines.
        """
        self._position += len(chunk)
        data = self._held + chunk if self._held else chunk
        whole: list[bytes | LongLine] = []
        if self._long_start is not None:
            end = _first_end(data)
            if end == 0:
                self._hold_nothing_of(data)
                return whole
            whole.append(LongLine(self._long_start, self._position - len(data) + end))
            self._long_start = None
            data = data[end:]
        end = _last_end(data)
        if end:
            whole.append(data[:end])
            data = data[end:]
        if len(data) <= self._max_held_bytes:
            self._held = data
        elif referable:
            self._long_start = self._position - len(data)
            self._hold_nothing_of(data)
        else:
            whole.append(self._break(data))
        return whole

    def finish(self) -> bytes | LongLine | None:
        """Return the unfinished line at the end of the stream, None where there is none.

        Bytes get the newline that they lack.
        """
        if self._long_start is not None:
            return LongLine(self._long_start, self._position)
        return self._held + b"\n" if self._held else None

    def _hold_nothing_of(self, data: bytes) -> None:
        # Whether a last "\r" ends the line or begins "\r\n", the next byte tells.
        self._held = b"\r" if data.endswith(b"\r") else b""

    def _break(self, data: bytes) -> bytes:
        size = self._max_held_bytes
        end = (len(data) - 1) // size * size
        self._held = data[end:]
        return b"".join(data[i : i + size] + b"\n" for i in range(0, end, size))


def prefixed(lines: bytes, prefix: bytes) -> bytes:
    """Return whole lines with a prefix before each; with none, the bytes as they are.

    Args:
        lines: Whole lines, at least one. A newline follows a lone carriage return.
        prefix: What stands before each line.
    """
    if not prefix:
        return lines
    if b"\r" in lines:
        lines = _LONE_RETURN.sub(b"\r\n", lines)
    return prefix + lines[:-1].replace(b"\n", b"\n" + prefix) + b"\n"


def matching(lines: bytes, words: Sequence[bytes], prefix: bytes) -> bytes:
    """Return the lines that hold any of the words, with a prefix before each.

    Args:
        lines: Whole lines.
        words: What is looked for.
        prefix: What stands before each line returned.
    """
    if not any(word in lines for word in words):
        return b""
    return b"".join(
        prefix + line + b"\n" for line in lines.splitlines() if any(word in line for word in words)
    )


def holds_any(pieces: Iterable[bytes], words: Sequence[bytes]) -> bool:
    """Return whether the bytes that the pieces make together hold any of the words."""
    overlap = max(map(len, words), default=1) - 1
    seen = b""
    for piece in pieces:
        seen += piece
        if any(word in seen for word in words):
            return True
        seen = seen[-overlap:] if overlap > 0 else b""
    return False


def _first_end(data: bytes) -> int:
    """Return the length of the first line, 0 where it isn't whole."""
    newline = data.find(b"\n") + 1
    lone = data.find(b"\r", 0, newline or -1) + 1
    if lone == 0 or lone == newline - 1:
        return newline
    return lone


def _last_end(data: bytes) -> int:
    """Return the length of all whole lines together."""
    return max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1
