"""Cuts a stream of bytes into whole lines, in bounded memory.

A line ends with a newline, or with a lone carriage return, which is how progress bars end each of
their states: so a bar is shown while it grows, one state behind, and the states of two workers
don't run into each other. A line that is too long to be held is not kept: the cutter says where in
the stream it lies, for a reader who has the stream in a file, or breaks it where there is none.

The beginning of a line that pauses (a prompt, ``print("loading ", end="")``) may be taken before
the line is whole. The whole line is returned all the same when it ends: a reader who has taken the
beginning leaves that many bytes of it out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ...rendezvous.named_tuple import NamedTuple

MAX_HELD_BYTES = 64 * 1024
PAUSE_S = 0.3
"""The beginning of a line may be taken when nothing has followed it for so long,"""
LONGEST_WAIT_S = 1.0
"""or when its first byte that was not taken is so old: a row of dots may have no pause."""

# UTF-8: lower bytes are ASCII; from the others on, a byte is the first of 2, 3 or 4.
_ASCII_END, _FIRST_OF_2, _FIRST_OF_3, _FIRST_OF_4 = 0x80, 0xC0, 0xE0, 0xF0
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
        pause_s: When nothing follows for so long, the beginning of a line may be taken.
    """

    def __init__(self, max_held_bytes: int = MAX_HELD_BYTES, pause_s: float = PAUSE_S) -> None:
        self._max_held_bytes = max_held_bytes
        self._pause_s = pause_s
        self._held = b""
        self._position = 0
        self._long_start: int | None = None
        self._untaken_since: float | None = None
        self.taken_bytes = 0
        """How many bytes of the unfinished line ``take_beginning`` has returned."""
        self.due_at: float | None = None
        """When to call ``take_beginning``, if nothing is fed before; None: there is nothing."""

    def feed(self, chunk: bytes, *, referable: bool, now: float = 0.0) -> list[bytes | LongLine]:
        """Take the next bytes of the stream, and return what is whole, in the stream's order.

        Args:
            chunk: Any number of bytes.
            referable: Whether somebody keeps the stream, this chunk included, so that a line too
                long may be described as a `LongLine`; else it is broken: what is there becomes a
                line. All chunks before the first that is not referable are kept.
            now: The time in seconds, by any clock.

        Returns:
            Bytes that are one or more whole lines, and long lines.
        """
        whole = self._cut(chunk, referable=referable)
        if whole:
            self.taken_bytes = 0
            self._untaken_since = None
        self._decide_when_due(now)
        return whole

    def take_beginning(self) -> bytes | LongLine | None:
        """Return what has not been taken of the unfinished line, as far as it can be shown.

        A carriage return at its end is left, since it may belong to the newline that follows; so
        is a character of UTF-8 that is not whole.
        """
        self.due_at = self._untaken_since = None
        if self._long_start is not None:
            start = self._long_start + self.taken_bytes
            stop = self._position - len(self._held)
            self.taken_bytes += stop - start
            return LongLine(start, stop) if stop > start else None
        beginning = self._held[self.taken_bytes : _shown_end(self._held)]
        self.taken_bytes += len(beginning)
        return beginning or None

    def finish(self) -> bytes | LongLine | None:
        """Return the unfinished line at the end of the stream, None where there is none.

        Bytes get the newline that they lack.
        """
        self.due_at = None
        if self._long_start is not None:
            return LongLine(self._long_start, self._position)
        return self._held + b"\n" if self._held else None

    def _cut(self, chunk: bytes, *, referable: bool) -> list[bytes | LongLine]:
        self._position += len(chunk)
        whole: list[bytes | LongLine] = []
        if self._long_start is None and (end := _last_end(chunk)):
            # A sum and a slice would each copy all once more.
            whole.append(b"".join((self._held, memoryview(chunk)[:end])))
            self._held, chunk = b"", chunk[end:]
        data = self._held + chunk
        if self._long_start is not None:
            # Once the stream is no longer kept, the line is broken where this chunk begins.
            end = _first_end(data) if referable else len(data) - len(chunk)
            if end == 0 and referable:
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

    def _decide_when_due(self, now: float) -> None:
        if self._long_start is not None:
            can_be_shown = self._position - len(self._held) - self._long_start
        else:
            can_be_shown = _shown_end(self._held)
        if can_be_shown <= self.taken_bytes:
            self.due_at = self._untaken_since = None
            return
        if self._untaken_since is None:
            self._untaken_since = now
        self.due_at = min(now + self._pause_s, self._untaken_since + LONGEST_WAIT_S)

    def _hold_nothing_of(self, data: bytes) -> None:
        # Whether a last "\r" ends the line or begins "\r\n", the next byte tells.
        self._held = b"\r" if data.endswith(b"\r") else b""

    def _break(self, data: bytes) -> bytes:
        size = self._max_held_bytes
        end = (len(data) - 1) // size * size
        self._held = data[end:]
        return b"".join(data[i : i + size] + b"\n" for i in range(0, end, size))


def prefixed(lines: bytes, prefix: bytes, *, continues: bool = False) -> bytes:
    """Return lines with a prefix before each; with none, the bytes as they are.

    Args:
        lines: Lines, of which the last may lack its end. A newline follows a lone carriage return.
        prefix: What stands before each line.
        continues: Whether the first is the rest of a line, which has its prefix already.
    """
    if not prefix:
        return lines
    if b"\r" in lines:
        lines = _LONE_RETURN.sub(b"\r\n", lines)
    text = lines.replace(b"\n", b"\n" + prefix)
    end = len(text) - len(prefix) * lines.endswith(b"\n")
    # A slice and a sum would each copy all once more.
    return b"".join((b"" if continues else prefix, memoryview(text)[:end]))


def matching(lines: bytes, words: Sequence[bytes], prefix: bytes) -> bytes:
    """Return the lines that hold any of the words, with a prefix before each.

    Args:
        lines: Whole lines.
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


def _shown_end(data: bytes) -> int:
    """Return how much of an unfinished line can be shown."""
    end = len(data) - data.endswith(b"\r")
    for length in range(1, min(4, end + 1)):
        byte = data[end - length]
        if byte >= _FIRST_OF_2:
            return end - length if length < _character_bytes(byte) else end
        if byte < _ASCII_END:
            break
    return end


def _character_bytes(first_byte: int) -> int:
    return 2 + (first_byte >= _FIRST_OF_3) + (first_byte >= _FIRST_OF_4)


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
