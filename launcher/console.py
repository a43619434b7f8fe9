"""elrun's own lines on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

PREFIX = "elrun: "


def printable(text: str) -> str:
    r"""Return text in which nothing can act on a terminal.

    Args:
        text: Anything, from a worker, another node or the user.

    Returns:
        The text with line breaks kept, tabs as spaces, and every other character that is not
        printable (control characters, text-direction marks, lone surrogates) as ``\x1b``.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each == "\n" else _shown(each) for each in text)


def _shown(character: str) -> str:
    if character == "\t":
        return "    "
    return character.encode("unicode_escape").decode("ascii")


class Console:
    """Where elrun speaks. A stream that takes nothing any more never fails the job.

    Args:
        stream: Where to write; by default standard error as it is at the time.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    @property
    def stream(self) -> TextIO | None:
        """Where lines go; None in a process without standard error."""
        return self._stream or sys.stderr

    def say(self, message: str) -> None:
        """Write a message as one line, under elrun's name."""
        self.write(PREFIX + " ".join(printable(message).splitlines()) + "\n")

    def write(self, text: str) -> None:
        """Write text as it is."""
        stream = self.stream
        if stream is None:
            return
        encoding = getattr(stream, "encoding", None) or "utf-8"
        with suppress(OSError, ValueError):  # no reader, a full disk, a closed file
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()

    def settle(self) -> None:
        """Let go of streams that nobody reads, so that they can't change the exit code.

        Python would try them once more at exit, and end with 120 for what is still unwritten.
        """
        for stream in (sys.stdout, self.stream):
            if stream is None:
                continue
            try:
                stream.flush()
            except (OSError, ValueError):
                _discard(stream)


def _discard(stream: TextIO) -> None:
    with suppress(OSError, ValueError):  # closed, or no file at all
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)


@contextmanager
def logging_to(console: Console, level: str) -> Iterator[None]:
    """Send what elrun's modules log to the console, a line each.

    Args:
        console: Where to.
        level: Name of the least level that is shown; an unknown one counts as WARNING.
    """
    import logging  # noqa: PLC0415  `--help` needs none

    class _Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            console.say(self.format(record))

    logger = logging.getLogger(__package__.partition(".")[0])
    before = logger.level, logger.propagate
    known = logging.getLevelName(level.upper())
    handler = _Lines()
    logger.setLevel(known if isinstance(known, int) else logging.WARNING)
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
