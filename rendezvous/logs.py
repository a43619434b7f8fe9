"""Loggers that load the standard library's ``logging`` with the first line that is logged.

To import it takes a tenth of elrun's start, and most jobs log nothing. As long as nobody has
imported it, nobody can have asked for lines below WARNING, so these are dropped.

What is to be set up before the first line, such as a handler, is given to ``once_there``.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DEBUG, _INFO, _WARNING, _ERROR = 10, 20, 30, 40
_STANDARD_ERROR = 2
_CALLER = 3
"""Frames from ``logging`` to the place that logs: this module has two."""


class _SetUps:
    """What is to be done once ``logging`` is there, in order."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._waiting: list[Callable[[], None]] = []

    def add(self, set_up: Callable[[], None]) -> None:
        with self._lock:
            self._waiting.append(set_up)
            if is_there():
                self.do_all()

    def withdraw(self, set_up: Callable[[], None]) -> bool:
        """Return whether that was in time: it has not been done."""
        with self._lock:
            if set_up not in self._waiting:
                return False
            self._waiting.remove(set_up)
            return True

    def do_all(self) -> None:
        with self._lock:
            while self._waiting:
                set_up = self._waiting.pop(0)
                try:
                    set_up()
                except BaseException:
                    self._waiting.insert(0, set_up)
                    raise


_set_ups = _SetUps()


class PlaceInRun:
    """Which run this process's node takes part in, and where, for lines that are to name it."""

    def __init__(self) -> None:
        self.run_id = ""
        self.rank: int | None = None

    def note(self, run_id: str, rank: int | None) -> None:
        """Take note of the run, and of the node's rank in it; None: it has none now."""
        self.run_id, self.rank = run_id, rank


place_in_run = PlaceInRun()
"""Of this process; of several agents that of the one that has met others last."""


class LiveLine:
    """One line at the bottom of a terminal that tells how a wait goes, and is written anew."""

    def __init__(self) -> None:
        self.show: Callable[[str], None] | None = None
        """Shows the line; an empty one removes it. None: there is no terminal for it."""
        self.is_after_part = False
        """Whether what others wrote last, where elrun speaks, was no whole line."""


live_line = LiveLine()
"""Of this process."""


def is_there() -> bool:
    """Return whether anybody in this process has imported ``logging``."""
    return "logging" in sys.modules


@contextmanager
def once_there(set_up: Callable[[], None], undo: Callable[[], None]) -> Iterator[None]:
    """Have something done before the first line is logged: at once if ``logging`` is there.

    Args:
        set_up: What is done, by the thread that logs.
        undo: What is done at the end of the context, if ``set_up`` has been called.
    """
    _set_ups.add(set_up)
    try:
        yield
    finally:
        if not _set_ups.withdraw(set_up):
            undo()


def _write_plainly(message: str, args: tuple[object, ...]) -> None:
    """Write a line to standard error, if that takes it at once."""
    import select  # this is the exception

    console = select.poll()
    console.register(_STANDARD_ERROR, select.POLLOUT)
    with suppress(OSError, TypeError, ValueError):
        if console.poll(0):
            line = f"elrun: {message % args if args else message}\n"
            os.write(_STANDARD_ERROR, line.encode(errors="backslashreplace"))


class Log:
    """Logs under a name, as ``logging.getLogger(name)`` does."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def debug(self, message: str, *args: object) -> None:
        """Log a detail; ``args`` are filled into the message with ``%``."""
        if is_there():
            self._log(_DEBUG, message, args)

    def info(self, message: str, *args: object, exc_info: object = None) -> None:
        """Log a change of state."""
        if is_there():
            self._log(_INFO, message, args, exc_info)

    def warning(self, message: str, *args: object, exc_info: object = None) -> None:
        """Log what a person should know."""
        self._log(_WARNING, message, args, exc_info)

    def exception(self, message: str, *args: object) -> None:
        """Log a fault, with the exception that is being handled."""
        self._log(_ERROR, message, args, exc_info=True)

    def _log(
        self, level: int, message: str, args: tuple[object, ...], exc_info: object = None
    ) -> None:
        try:
            import logging  # the purpose of this module

            _set_ups.do_all()
        except (OSError, ImportError):  # there is no descriptor to read the library with
            if level >= _WARNING:
                _write_plainly(message, args)
            return
        logger = logging.getLogger(self._name)
        if logger.isEnabledFor(level):
            logger.log(level, message, *args, exc_info=exc_info, stacklevel=_CALLER)  # type: ignore[arg-type]
