"""Cuts what a rank has printed into lines, and into the steps of progress bars."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_LINE_BYTES = 1 << 20

# Whether a "\r" ends a step or begins "\r\n", the next byte tells.
_END = re.compile(rb"\r?\n|\r(?!\n|\Z)")


class Lines:
    r"""Cuts bytes into lines, each with its end: ``"\n"``, or ``"\r"`` as in a progress bar.

    The beginning of a line that has no end yet waits. If it is asked for, it is a piece without an
    end, and what is yielded next is the rest of that line.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._is_begun = False

    def feed(self, data: bytes) -> Iterator[str]:
        """Yield the lines that have ended, and a line that is too long to wait for."""
        data, start = self._rest + data, 0
        for found in _END.finditer(data):
            line, start = data[start : found.end()], found.end()
            self._is_begun = False
            yield line.decode("utf-8", "surrogateescape")
        self._rest = data[start:]
        if len(self._rest) > _MOST_LINE_BYTES:
            yield from self.beginning()

    def beginning(self) -> Iterator[str]:
        """Yield what there is of a line without an end."""
        text = self._rest.removesuffix(b"\r")
        if text:
            self._rest = self._rest[len(text) :]
            self._is_begun = True
            yield text.decode("utf-8", "surrogateescape")

    def finish(self) -> Iterator[str]:
        """Yield the rest of the last line, which gets an end."""
        rest, self._rest = self._rest, b""
        if rest or self._is_begun:
            self._is_begun = False
            yield rest.decode("utf-8", "surrogateescape") + "\n"


def has_end(line: str) -> bool:
    """Return whether a line is whole, so that the next one begins another."""
    return line.endswith(("\n", "\r"))
