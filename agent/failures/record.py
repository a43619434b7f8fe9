"""The file in which a process leaves the exception that ended it, for its agent to read.

A process finds the file's name in ``TORCHELASTIC_ERROR_FILE``; `error_record` has the format.
"""

from __future__ import annotations

import faulthandler
import functools
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from ...rendezvous.logs import Log
from ..system.left_files import LeftFileReader
from .error_record import error_record, read_error_record
from .error_writer import write_error_file
from .failure import ERROR_FILE_VARIABLE, MOST_BASES, NOT_AVAILABLE, ChildFailedError

log = Log(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")


class ErrorHandler:
    """Writes this process's exception to its error file; does nothing where none is asked for.

    Programs subclass it, and give their own to ``record``. The names are those of torch 2.15.
    """

    _fn_name: str | None = None

    def set_entrypoint_fn_name(self, fn_name: str | None) -> None:
        """Learn which function ``record`` is about to call, for whatever a subclass records of it.

        Args:
            fn_name: Its qualified name; None where it has none, as a ``functools.partial``.
        """
        self._fn_name = fn_name

    def initialize(self) -> None:
        """Let fatal signals (SIGSEGV, SIGABRT …) print the Python stack to standard error."""
        try:
            faulthandler.enable(all_threads=True)
        except (OSError, RuntimeError, ValueError, AttributeError) as error:  # no real stderr
            log.debug("no stack will be printed at a fatal signal: %s", error)

    def record_exception(self, e: BaseException) -> None:
        """Write an exception with its traceback and the time.

        Args:
            e: The exception that ends this process.
        """
        if self._fn_name:
            log.debug("%s has raised %s", self._fn_name, type(e).__name__)
        stack = "".join(traceback.format_exception(type(e), e, e.__traceback__))
        kinds = [f"{each.__module__}.{each.__qualname__}" for each in type(e).__mro__[:MOST_BASES]]
        self._write(error_record(sentence_of(e), stack, int(time.time()), kinds=kinds))

    def record_failure(self, error: ChildFailedError) -> None:
        """Write why workers failed as the reason why this process does.

        Args:
            error: What ends this process.
        """
        _, failure = error.get_first_failure()
        if failure.error_file != NOT_AVAILABLE:
            data = dict(failure.error_file_data)
            self._pass_on(failure.error_file, data, failure.exitcode)
            return
        root = error.report.root if error.report else None
        message = root.reason if root else failure.summary
        stack = root.traceback if root else ""
        self._write(error_record(message, stack, failure.timestamp, failure.exitcode))

    def record_success(self) -> None:
        """Learn that the function has returned: for subclasses; here it is logged at most."""
        if self._fn_name:
            log.debug("%s has returned", self._fn_name)

    def maybe_enrich_signal_failure_message(self, message: str, error_file: str) -> str:
        """Return what is said of a worker that a signal killed: for subclasses that know more.

        Args:
            message: What is said without them.
            error_file: The worker's error file, ``<N/A>`` where it left none.
        """
        return message

    def dump_error_file(self, rootcause_error_file: str, error_code: int = 0) -> None:
        """Pass a worker's error file on as this process's own.

        Args:
            rootcause_error_file: The file that the worker wrote.
            error_code: The worker's exit code, added where the file doesn't say one.
        """
        data = read_error_record(rootcause_error_file, LeftFileReader()).data
        if data is None:
            log.warning("%s: no readable error file to pass on", rootcause_error_file)
            return
        self._pass_on(rootcause_error_file, data, error_code)

    def override_error_code_in_rootcause_data(
        self,
        rootcause_error_file: str,
        rootcause_error: dict[str, Any],
        error_code: int = 0,
    ) -> None:
        """Add a worker's exit code to what it wrote, where that says none.

        Args:
            rootcause_error_file: The file that the worker wrote.
            rootcause_error: What is in it; it is changed.
            error_code: The worker's exit code.
        """
        message = rootcause_error.get("message")
        if isinstance(message, dict):
            rootcause_error["message"] = {"errorCode": error_code} | message

    def _pass_on(self, path: str, data: dict[str, Any], error_code: int) -> None:
        if error_code:
            self.override_error_code_in_rootcause_data(path, data, error_code)
        self._write(data)

    def _write(self, data: dict[str, Any]) -> None:
        path = os.environ.get(ERROR_FILE_VARIABLE)
        if not path:
            return
        try:
            write_error_file(path, data)
        except (OSError, ValueError) as error:  # a full disk must not hide the exception itself
            reason = getattr(error, "strerror", None) or error  # not the file that is moved there
            print(f"{path}: the error file can't be written: {reason}", file=sys.stderr)


def sentence_of(error: BaseException) -> str:
    """Return an exception's type and text, whatever its own methods do."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001  the user's __str__
        return f"{type(error).__name__}: <its text can't be had>"


def get_error_handler() -> ErrorHandler:
    """Return the handler that ``record`` uses by default."""
    return ErrorHandler()


def record(
    fn: Callable[_P, _R], error_handler: ErrorHandler | None = None
) -> Callable[_P, _R | None]:
    """Decorate a program's main function so that its exception reaches the agent.

    Args:
        fn: The function that the process runs.
        error_handler: What writes the exception; by default the error file. One that was written
            for an older torch, and doesn't want to know of names and success, is not told.

    Returns:
        The function; it raises what ``fn`` raises, except that ``sys.exit(0)`` returns None.
    """
    handler = error_handler or get_error_handler()

    @functools.wraps(fn)
    def recorded(*args: _P.args, **kwargs: _P.kwargs) -> _R | None:
        if (learn_name := getattr(handler, "set_entrypoint_fn_name", None)) is not None:
            learn_name(getattr(fn, "__qualname__", None))
        handler.initialize()
        try:
            result = fn(*args, **kwargs)
        except SystemExit as leaving:
            if leaving.code not in (None, 0):
                raise
            return None
        except ChildFailedError as error:
            failure = error.get_first_failure()[1]
            if failure.error_file != NOT_AVAILABLE:
                handler.dump_error_file(failure.error_file, failure.exitcode)
            elif isinstance(handler, ErrorHandler):  # torch's have no such method
                handler.record_failure(error)
            raise
        except Exception as error:  # whatever the user's program raises
            handler.record_exception(error)
            raise
        # Not within the try: what a handler raises here is no failure of the function's.
        if (learn_success := getattr(handler, "record_success", None)) is not None:
            learn_success()
        return result

    return recorded
