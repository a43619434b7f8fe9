"""Starts threads, and calls functions in them where the caller can't wait without end.

Python raises a bare RuntimeError where the system grants no more threads (``ulimit -u``, a
container's limit of processes). Here that is a ``NoThreadError``: a shortage, as of descriptors.
"""

from __future__ import annotations

import errno
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Generic, TypeVar

    _T = TypeVar("_T")
else:
    _T = None

    class Generic:
        """Stands in for ``typing.Generic``, which a start does not load."""

        def __class_getitem__(cls, _parameter: object) -> type:
            return cls


class NoThreadError(BlockingIOError):
    """The system grants no more threads."""

    def __init__(self) -> None:
        super().__init__(errno.EAGAIN, "there can be no more threads")


def start_thread(thread: threading.Thread) -> threading.Thread:
    """Start a thread, and return it.

    Raises:
        NoThreadError: The system grants no more.
    """
    try:
        thread.start()
    except RuntimeError as error:  # a fresh thread's start raises it for no other reason
        raise NoThreadError from error
    return thread


def start_daemon(function: Callable[..., object], name: str, *args: object) -> threading.Thread:
    """Start a daemon thread that calls a function, and return it.

    Raises:
        NoThreadError: The system grants no more.
    """
    return start_thread(threading.Thread(target=function, name=name, args=args, daemon=True))


class Call(Generic[_T]):
    """A call that may block, in a daemon thread; the caller waits as long as it likes.

    Args:
        wake: Called in that thread once the call has ended.
        or_here: Whether the function is called by the caller's own thread where the system grants
            no other one. That may block for long, so it is for what nearly always answers.

    Raises:
        NoThreadError: There is no thread, and ``or_here`` is False.
    """

    def __init__(
        self,
        function: Callable[[], _T],
        name: str,
        wake: Callable[[], None] | None = None,
        *,
        or_here: bool,
    ) -> None:
        self._function = function
        self._wake = wake
        self._value: list[_T] = []
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self.is_done = False
        """Whether the call has ended."""
        try:
            self._thread = start_daemon(self._run, name, BaseException)
        except NoThreadError:
            if not or_here:
                raise
            self._run(Exception)  # an interrupt of the caller goes on at once

    def wait(self, timeout_s: float) -> bool:
        """Wait until the call has ended, for a bounded time; return whether it has.

        Args:
            timeout_s: How long; a call that has not ended by then may be left to itself.
        """
        if self._thread is not None:
            self._thread.join(min(max(0.0, timeout_s), threading.TIMEOUT_MAX))
        return self.is_done

    def result(self) -> _T:
        """Return what the function returned, or raise what it raised; the call has ended."""
        if self._error is not None:
            raise self._error
        return self._value[0]

    def _run(self, caught: type[BaseException]) -> None:
        try:
            self._value.append(self._function())
        except caught as error:  # `result` raises it
            self._error = error
        self.is_done = True
        if self._wake is not None:
            self._wake()


def call_in_time(function: Callable[[], _T], timeout_s: float, name: str) -> _T:
    """Return what a function returns; after the time-out leave its thread to itself.

    Raises:
        Exception: What it raised.
        TimeoutError: It did not return in time.
        NoThreadError: There is no thread that could be left to itself.
    """
    call = Call(function, name, or_here=False)
    if not call.wait(timeout_s):
        raise TimeoutError(f"no answer within {timeout_s:g} s")
    return call.result()
