# ruff: noqa: SLF001  the registries of the standard library have no public names

"""Lets a forked process leave alone what its parent registered to be done at its own end.

What was registered there is the parent's: a copy of it that runs in a child deletes the parent's
temporary folder, or writes the history of the parent's prompt. Nothing of it is dropped, either:
with the last reference to an object of the parent's, its finalizer would run here. Python calls
such functions in the reverse of the order in which they were registered. So one more is registered
in the child, and when that one's turn comes, all of the child's own have been called: it ends the
process.
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable
from typing import Any, NoReturn


class InheritedExits:
    """What a process that has just been forked inherited; made there before anything else is."""

    def __init__(self) -> None:
        self._end: Callable[[], NoReturn] | None = None
        atexit.register(self._reach)
        self._kept = [_forget_finalizers(), _forget_executors(), _forget_log_handlers()]

    def run_own(self, end: Callable[[], NoReturn]) -> NoReturn:
        """Call what was registered in this process, then end it.

        Args:
            end: Ends the process.
        """
        self._end = end
        atexit._run_exitfuncs()
        end()  # somebody has cleared the registry

    def _reach(self) -> None:
        if self._end is not None:
            self._end()


def _forget_finalizers() -> dict[Any, Any]:
    # weakref.finalize, on which TemporaryDirectory is built, asks nobody whose process this is.
    finalize: Any = getattr(sys.modules.get("weakref"), "finalize", None)
    if finalize is None:
        return {}
    kept = dict(finalize._registry)
    finalize._registry.clear()
    finalize._registered_with_atexit = False  # the child's first one registers them again
    return kept


def _forget_executors() -> list[Any]:
    # Their threads are not in this process. What joins threads stays: the child may have its own.
    kept = []
    for module, name in (("thread", "_threads_queues"), ("process", "_threads_wakeups")):
        threads: Any = getattr(sys.modules.get(f"concurrent.futures.{module}"), name, None)
        if threads is not None:
            kept.append(dict(threads))
            threads.clear()
    return kept


def _forget_log_handlers() -> list[Any]:
    # What a handler of the parent's holds back, the parent writes.
    logging: Any = sys.modules.get("logging")
    if logging is None:
        return []
    kept = list(logging._handlerList)
    logging._handlerList.clear()
    atexit.register(logging.shutdown)
    return kept
