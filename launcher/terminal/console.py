"""elrun's own lines on standard error."""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import contextmanager, suppress
from functools import partial

from ...rendezvous.logs import live_line, once_there

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import TextIO

    from .json_lines import JsonLines

PREFIX = "elrun: "
DEFAULT_LEVEL = "WARNING"

_USUAL_COLUMNS = 80
_ANEW = "\r\x1b[K"
_STANDARD_ERROR = 2
_OF_WAITS = (".elastic.wait_notices", ".processes.stop_notice")
"""The modules that only tell how a wait goes."""


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

    json_lines: JsonLines | None = None
    """Turns each message into JSON; None: they are text."""

    is_quiet = False
    """Whether what is no failure is left out: notices, and how waits go."""

    patience_s: float | None = None
    """How long a stream may take nothing before the rest is dropped; None: as long as it likes."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._has_live_line = False

    @property
    def stream(self) -> TextIO | None:
        """Where lines go; None in a process without standard error."""
        return self._stream or sys.stderr

    def say(self, message: str, level: str = "warning") -> None:
        """Write a message as one line, under elrun's name.

        Args:
            level: How much it matters, for JSON.
        """
        sentence = " ".join(printable(message).splitlines())
        if self.json_lines is not None:
            self._write_if_possible(self.json_lines.line(sentence, level))
        else:
            self._write_if_possible(f"{PREFIX}{sentence}\n")

    def say_below(self, message: str, *more: str) -> None:
        """Write a message, and further lines below it."""
        lines = [" ".join(printable(each).splitlines()) for each in (message, *more)]
        self.write(PREFIX + "\n  ".join(lines) + "\n")

    def notice(self, message: str) -> None:
        """Say what is good to know before a job, unless the user wants none of that."""
        if not self.is_quiet:
            self.say(message, "info")

    def write(self, text: str) -> None:
        """Write a text of several lines as it is; as JSON it is the message of one error."""
        if self.json_lines is not None:
            text = self.json_lines.line(text.strip("\n"), "error")
        self._write_if_possible(text)

    def show_live(self, message: str) -> None:
        """Write a message in place of the last one of this kind; an empty one removes that.

        A terminal that takes nothing at once is not waited for.
        """
        stream = self.stream
        if stream is None or not (message or self._has_live_line):
            return
        with suppress(OSError, ValueError):
            if _is_writable(stream.fileno(), 0):
                columns = os.get_terminal_size(stream.fileno()).columns or _USUAL_COLUMNS
                line = (PREFIX + printable(message))[: columns - 1] if message else ""
                os.write(stream.fileno(), f"{_ANEW}{line}".encode(errors="backslashreplace"))
                self._has_live_line = bool(message)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show how waits go in one line, while the body runs, if this is a terminal."""
        stream = self.stream
        is_wanted = self.json_lines is None and not self.is_quiet
        if not is_wanted or stream is None or not stream.isatty():
            yield
            return
        live_line.show = self.show_live
        try:
            yield
        finally:
            live_line.show = None

    def _write_if_possible(self, text: str) -> None:
        if self._has_live_line:  # the text takes its place
            self._has_live_line, text = False, _ANEW + text
        if live_line.is_after_part and self._stream is None:  # a progress bar, or a prompt
            live_line.is_after_part, text = False, "\n" + text
        with suppress(OSError, ValueError):  # no reader, a full disk, a closed file
            self._try_to_write(text)

    def answer(self, text: str) -> bool:
        """Write what was asked for on standard output: there is nothing else to do.

        Returns:
            Whether somebody reads it: one who repeats himself need not go on otherwise.

        Raises:
            OSError: It can't be written, though somebody wants to read it: the disk is full.
        """
        if self._stream is None:  # it is closed
            return False
        try:
            self._try_to_write(text)
        except (BrokenPipeError, ValueError):  # enough was read, or there is no file
            return False
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from error
        return True

    def settle(self) -> None:
        """Let go of streams that nobody reads, so that they can't change the exit code.

        Python would try them once more at exit, and end with 120 for what is still unwritten.
        """
        for stream in (sys.stdout, self.stream):
            if stream is None or (self.patience_s is not None and not _takes_more(stream)):
                continue
            try:
                stream.flush()
            except (OSError, ValueError):
                _discard(stream)

    def _try_to_write(self, text: str) -> None:
        stream = self.stream
        if stream is None:
            return
        encoding = getattr(stream, "encoding", None) or "utf-8"
        data = text.encode(encoding, "backslashreplace")
        if type(stream) is not io.TextIOWrapper or not _is_real(stream):
            stream.write(data.decode(encoding))
            stream.flush()
        else:
            self._write_all(stream.fileno(), data)

    def _write_all(self, fd: int, data: bytes) -> None:
        """Write past the stream's buffer, whose lock a thread that is stuck in a write holds.

        A thread that waits for that lock runs no signal handler; one that waits in ``write`` does.
        """
        while data:
            if self.patience_s is not None and not _is_writable(fd, self.patience_s):
                return
            most = len(data) if self.patience_s is None else select.PIPE_BUF
            try:
                data = data[os.write(fd, data[:most]) :]
            except BlockingIOError:  # somebody who shares it has made it so
                _is_writable(fd, self.patience_s)


def _is_real(stream: TextIO) -> bool:
    try:
        return stream.fileno() >= 0
    except OSError:  # it is in memory
        return False


def _takes_more(stream: TextIO) -> bool:
    try:
        return _is_writable(stream.fileno(), 0)
    except (OSError, ValueError):  # it is in memory, or closed
        return True


def _is_writable(fd: int, timeout_s: float | None) -> bool:
    waiting = select.poll()
    waiting.register(fd, select.POLLOUT)
    return bool(waiting.poll(None if timeout_s is None else timeout_s * 1000))


def _discard(stream: TextIO) -> None:
    with suppress(OSError, ValueError):  # closed, or no file at all
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)


def logging_to(console: Console, level: str) -> AbstractContextManager[None]:
    """Send what elrun's modules log to the console, a line each.

    Args:
        level: Name of the least level that is shown; an unknown one counts as WARNING.
    """
    lines = _LogLines(console, level)
    if level.upper() != DEFAULT_LEVEL:  # else logging is loaded with the first line
        from importlib import import_module

        import_module("logging")
    return once_there(lines.begin, lines.end)


class _LogLines:
    """Shows log lines on a console from ``begin`` to ``end``."""

    def __init__(self, console: Console, level: str) -> None:
        self._console = console
        self._level = level
        self._undo: list[Callable[[], None]] = []

    def begin(self) -> None:
        import logging  # most jobs log nothing

        console = self._console

        class Lines(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if not (console.is_quiet and record.name.endswith(_OF_WAITS)):
                    console.say(self.format(record), record.levelname.lower())

        logger = logging.getLogger(__package__.partition(".")[0])
        handler, known = Lines(), logging.getLevelName(self._level.upper())
        self._undo += [
            partial(setattr, logger, "propagate", logger.propagate),
            partial(logger.setLevel, logger.level),
            partial(logger.removeHandler, handler),
        ]
        logger.setLevel(known if isinstance(known, int) else logging.WARNING)
        logger.addHandler(handler)
        logger.propagate = False

    def end(self) -> None:
        while self._undo:
            self._undo.pop()()


def fill_closed_streams() -> None:
    """Let standard streams that were closed (``elrun … >&-``) lead nowhere, for the workers too.

    Their numbers would go to the first files that are opened: what a worker prints would end up in
    a pipe of the agent's, or in the worker's own first connection.
    """
    while True:
        fd = os.open(os.devnull, os.O_RDWR)
        if fd > _STANDARD_ERROR:
            os.close(fd)
            return
        os.set_inheritable(fd, True)
