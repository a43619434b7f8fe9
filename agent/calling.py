"""Calls that may block for long, kept away from the agent's loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Call(Generic[_T]):
    """A blocking call in a daemon thread; it may be abandoned.

    Args:
        function: What is called.
        wake: Called in that thread once the call has ended.
    """

    def __init__(self, function: Callable[[], _T], wake: Callable[[], None]) -> None:
        self._function = function
        self._wake = wake
        self._value: list[_T] = []
        self._error: BaseException | None = None
        self.is_done = False
        """Whether the call has ended."""
        threading.Thread(target=self._run, name="elrun-rendezvous", daemon=True).start()

    def _run(self) -> None:
        try:
            self._value.append(self._function())
        except BaseException as error:  # noqa: BLE001  it is raised again where it is waited for
            self._error = error
        self.is_done = True
        self._wake()

    def result(self) -> _T:
        """Return what the function returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._value[0]
