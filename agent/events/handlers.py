"""Handlers that take events, by name: elrun's own, and plug-ins.

A handler is a ``logging.Handler``; each event is a record whose message is one line of JSON. The
plug-ins are entry points of the group ``elrun.event_log_handlers``, each a function or class that
is called without arguments and returns a handler::

    [project.entry-points."elrun.event_log_handlers"]
    ours = "our_package.events:OurHandler"
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING

from ..background import Background
from .file import EventFile

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

PLUGIN_GROUP = "elrun.event_log_handlers"
BUILT_IN = ("null", "console", "file")
FILE_PREFIX = "file:"
LOSS = "events"

_EXIT_TIMEOUT_S = 5.0


def get_logging_handler(destination: str = "null") -> logging.Handler:
    """Return a new handler.

    Args:
        destination: ``null`` drops all. ``console`` writes lines to standard error. ``file`` writes
            them to ``events_<host>_<pid>.jsonl`` in the working directory, ``file:PATH`` to a file
            of that name, or to one named as before where PATH is a directory or ends with a slash.
            All else is the name of a plug-in.

    Raises:
        ValueError: There is no such handler, or it can't be loaded.
    """
    if destination == "null":
        return logging.NullHandler()
    if destination == "console":
        return logging.StreamHandler()
    if destination == "file" or destination.startswith(FILE_PREFIX):
        return EventFile(destination[len(FILE_PREFIX) :])
    return _load(destination)


def is_known(destination: str) -> bool:
    """Return whether there is a handler of that name, without loading it."""
    is_own = destination in BUILT_IN or destination.startswith(FILE_PREFIX)
    return is_own or destination in _plugins()


def known_handlers() -> list[str]:
    """Return the names of elrun's handlers, then of the plug-ins that are installed."""
    return [*BUILT_IN, *sorted({*_plugins()}.difference(BUILT_IN))]


class Recorder:
    """Hands events to a handler, in a thread, since it may be slow.

    Args:
        destination: The handler's name.

    Raises:
        ValueError: There is no such handler, or it can't be loaded.
    """

    def __init__(self, destination: str) -> None:
        self._handler = get_logging_handler(destination)
        if type(self._handler).handleError is logging.Handler.handleError:
            # The standard one prints a traceback at each record: here the thread warns, once.
            self._handler.handleError = _raise_again  # type: ignore[method-assign]
        self._logger_name = f"torchelastic-events-{destination}"
        self._background = Background(f"the event log handler {destination!r}", LOSS)

    def take(self, line: str) -> None:
        """Have the handler take a line soon; return at once."""
        record = logging.LogRecord(self._logger_name, logging.INFO, "", 0, line, None, None)
        if record.levelno >= self._handler.level:
            self._background.call(lambda: self._hand_over(record))

    def _hand_over(self, record: logging.LogRecord) -> None:
        # Not by handle(), which holds the handler's lock: a handler that blocks would then block
        # the interpreter at its exit, where the standard library takes the lock of each.
        kept = self._handler.filter(record)
        if kept:
            self._handler.emit(kept if isinstance(kept, logging.LogRecord) else record)

    def close(self, timeout_s: float) -> None:
        """Wait until the handler has taken all, for a bounded time, and close it."""
        self._background.call(self._handler.flush)
        self._background.call(self._handler.close)
        self._background.close(timeout_s)


class Recorders:
    """The recorders of a process, by the names of their handlers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_name: dict[tuple[str, int], Recorder] = {}
        self._closes_at_exit = False

    def get(self, destination: str) -> Recorder:
        """Return the recorder of a handler, a new one at first, and in a process that was forked.

        Raises:
            ValueError: There is no such handler, or it can't be loaded.
        """
        key = destination, os.getpid()
        recorder = self._by_name.get(key)
        if recorder is not None:
            return recorder
        with self._lock:
            if key not in self._by_name:
                self._by_name[key] = Recorder(destination)
            if not self._closes_at_exit:
                self._closes_at_exit = True
                atexit.register(self._close_all)
            return self._by_name[key]

    def close(self, destination: str, timeout_s: float) -> None:
        """Close a recorder, if there is one; the next event opens another."""
        with self._lock:
            recorder = self._by_name.pop((destination, os.getpid()), None)
        if recorder is not None:
            recorder.close(timeout_s)

    def _close_all(self) -> None:
        for destination, _ in list(self._by_name):
            self.close(destination, _EXIT_TIMEOUT_S)


_recorders = Recorders()
recorder_of = _recorders.get
close_recorder = _recorders.close


def _load(name: str) -> logging.Handler:
    plugin = _plugins().get(name)
    if plugin is None:
        known = ", ".join(known_handlers())
        raise ValueError(f"there is no event log handler {name!r}; give {known} or file:PATH")
    try:
        handler = plugin.load()()
    except Exception as error:  # whatever a foreign package raises
        raise ValueError(
            f"the event log handler {name!r} ({plugin.value}) can't be loaded: {error!r}"
        ) from error
    if not isinstance(handler, logging.Handler):
        raise ValueError(
            f"the event log handler {name!r} ({plugin.value}) is {handler!r}: no logging.Handler"
        )
    return handler


def _plugins() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # 20 ms, for plug-ins only

    return {point.name: point for point in entry_points(group=PLUGIN_GROUP)}


def _raise_again(record: logging.LogRecord) -> None:  # noqa: ARG001  a handler's interface
    error = sys.exc_info()[1]
    if error is not None:
        raise error
