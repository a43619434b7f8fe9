"""The file in which a process leaves the exception that ended it, for its agent to read.

The format is the one that torch's own ``@record`` writes, so that either side may be torch's::

    {"message": {"message": "ValueError: no such shard",
                 "extraInfo": {"py_callstack": "Traceback …", "timestamp": "1790000000"}}}

A process finds the file's name in ``TORCHELASTIC_ERROR_FILE``.
"""

from __future__ import annotations

import faulthandler
import functools
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from .failure import ERROR_FILE_VARIABLE, ChildFailedError, read_error_file

log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")


class ErrorHandler:
    """Writes this process's exception to its error file; does nothing where none is asked for."""

    def initialize(self) -> None:
        """Let fatal signals (SIGSEGV, SIGABRT …) print the Python stack to standard error."""
        try:
            faulthandler.enable(all_threads=True)
        except (OSError, RuntimeError, ValueError, AttributeError) as error:  # no real stderr
            log.debug("no stack will be printed at a fatal signal: %s", error)

    def record_exception(self, error: BaseException) -> None:
        """Write an exception with its traceback and the time.

        Args:
            error: The exception that ends this process.
        """
        stack = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self._write(
            {
                "message": {
                    "message": f"{type(error).__name__}: {error}",
                    "extraInfo": {"py_callstack": stack, "timestamp": str(int(time.time()))},
                }
            }
        )

    def dump_error_file(self, rootcause_error_file: str, error_code: int = 0) -> None:
        """Pass a worker's error file on as this process's own.

        Args:
            rootcause_error_file: The file that the worker wrote.
            error_code: The worker's exit code, added where the file doesn't say one.
        """
        data = read_error_file(rootcause_error_file)
        if data is None:
            log.warning("%s: no readable error file to pass on", rootcause_error_file)
            return
        message = data.get("message")
        if error_code and isinstance(message, dict):
            message.setdefault("errorCode", error_code)
        self._write(data)

    def _write(self, data: dict[str, Any]) -> None:
        path = os.environ.get(ERROR_FILE_VARIABLE)
        if not path:
            return
        scratch = f"{path}.{os.getpid()}"
        try:
            with open(scratch, "w", encoding="utf-8", errors="backslashreplace") as file:
                json.dump(data, file)
            os.replace(scratch, path)
        except OSError as error:  # a full disk must not hide the exception itself
            print(f"{path}: the error file can't be written: {error}", file=sys.stderr)


def get_error_handler() -> ErrorHandler:
    """Return the handler that ``record`` uses by default."""
    return ErrorHandler()


def record(
    fn: Callable[_P, _R], error_handler: ErrorHandler | None = None
) -> Callable[_P, _R | None]:
    """Decorate a program's main function so that its exception reaches the agent.

    Args:
        fn: The function that the process runs.
        error_handler: What writes the exception; by default the error file.

    Returns:
        The function; it raises what ``fn`` raises, except that ``sys.exit(0)`` returns None.
    """
    handler = error_handler or get_error_handler()

    @functools.wraps(fn)
    def recorded(*args: _P.args, **kwargs: _P.kwargs) -> _R | None:
        handler.initialize()
        try:
            return fn(*args, **kwargs)
        except SystemExit as leaving:
            if leaving.code not in (None, 0):
                raise
            return None
        except ChildFailedError as error:
            failure = error.get_first_failure()[1]
            if read_error_file(failure.error_file) is not None:
                handler.dump_error_file(failure.error_file, failure.exitcode)
            raise
        except Exception as error:  # whatever the user's program raises
            handler.record_exception(error)
            raise

    return recorded
