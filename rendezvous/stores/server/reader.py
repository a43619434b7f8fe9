"""The receiving side of one client's connection, which a loop reads: the caller's or its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..loop import Loop, LoopOfOwn
from .calls import Call
from .frames import WireError
from .link import Link
from .wire import Answer, read_answer

FAULT = "a fault in its reader"


class Reader:
    """Reads a connection, and the one that replaces it.

    The caller calls ``begin``, ``replace`` and ``release`` under one lock. The functions are called
    by the thread of the loop.

    Args:
        take: Takes in an answer, and returns whether it is one to a call.
        leave: Called once when the connection has ended; nothing reads it any more.
        give_up: Called with the reason when what comes is of no use; calls ``release``.

    Attributes:
        link: The connection; None while there is none.
    """

    def __init__(
        self,
        link: Link,
        take: Callable[[Answer], bool],
        leave: Callable[[Link], None],
        give_up: Callable[[str], None],
    ) -> None:
        self.link: Link | None = link
        self._take = take
        self._leave = leave
        self._give_up = give_up
        # Held while the loop reads, and by the thread that closes the connection.
        self._reading = threading.Lock()
        self._loop: Loop | None = None
        self._own_loop: LoopOfOwn | None = None

    def begin(self, loop: Loop | None = None) -> None:
        """Have a loop read, if none does: the one that is given, or one of this reader's own.

        Raises:
            OSError: The kernel watches no more, or grants no thread.
        """
        if self._loop is not None or self.link is None:
            return
        if loop is None:
            loop = self._own_loop = self._own_loop or LoopOfOwn("elrun-store-client")
        self._read_over(self.link, loop)
        self._loop = loop

    def replace(self, link: Link) -> None:
        """Read another connection from now on.

        Raises:
            OSError: The kernel watches no more.
        """
        self.link = link
        if self._loop is not None:
            self._read_over(link, self._loop)

    def await_end(self, call: Call, timeout_s: float | None) -> bool:
        """Return whether a call ends within a time; the loop's own thread reads meanwhile."""
        loop = self._loop
        if loop is None or not loop.is_here:
            return call.await_end(timeout_s)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not call.has_ended:
            left_s = None if deadline is None else deadline - time.monotonic()
            loop.turn(left_s)  # even if the time is over: a process that was stopped reads first
            if left_s is not None and not left_s > 0:  # NaN is no time
                break
        return call.has_ended

    def wake(self) -> None:
        """Have the loop's thread look whether its call has ended."""
        if self._loop is not None:
            self._loop.wake()

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call a function after some seconds; the loop's thread asks, and calls it."""
        if self._loop is not None:
            self._loop.call_later(seconds, function)

    def release(self) -> None:
        """Close the connection, as soon as the loop does not read it any more."""
        link, self.link = self.link, None
        if link is not None and self._loop is not None:
            self._loop.remove(link.number)
        with self._reading:
            if link is not None:
                link.close()

    def end(self) -> None:
        """End the loop of this reader's own."""
        if self._own_loop is not None:
            self._own_loop.end()

    def _read_over(self, link: Link, loop: Loop) -> None:
        loop.add(link.number, lambda: self._read(link, loop))

    def _read(self, link: Link, loop: Loop) -> None:
        """Take in what has come."""
        try:
            with self._reading:
                if link is not self.link:
                    return
                try:
                    for message in link.receive():
                        if self._take(read_answer(message)):
                            link.has_answered = True
                except ConnectionError:
                    loop.remove(link.number)  # here: no thread closes it meanwhile
                    raise
        except ConnectionError:
            self._leave(link)
        except WireError as error:
            self._give_up(f"what it sends is not understood: {error}")
        except BaseException:
            self._give_up(FAULT)
            raise
