"""Notices that a server answers no more, and breaks all connections to it off.

TCP bears silence for a quarter of an hour, and torch for as long as TCP does: a host that froze, or
whose cable was cut, refuses nothing. So calls that are to be answered at once are looked at now and
then. One that was seen under way too often means that the server is lost. Then the sockets are shut
down, from which every thread that is stuck in one comes back with an error.

A look counts as much however long it was to the last one: if this very process was stopped, the
server is not to blame.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from typing import Any, TypeVar

LOOK_S = 0.5
PATIENCE_LOOKS = 13  # so that TCP's fifth attempt, after 6.2 s, may still succeed

_MAPPED = "::ffff:"  # before an IPv4 address that a socket of both kinds is connected to

_T = TypeVar("_T")


class AnswerWatch:
    """Looks at the calls to one server.

    Args:
        peer: Address and port of the server.
        look_s: Seconds between two looks.
        patience_looks: How many looks may find the same call under way.
    """

    def __init__(
        self, peer: tuple[str, int], look_s: float = LOOK_S, patience_looks: int = PATIENCE_LOOKS
    ) -> None:
        self._peer = peer
        self._look_s = look_s
        self._patience_looks = patience_looks
        self._ended = threading.Event()
        self._on_loss: list[Callable[[str], None]] = []
        # The call of each thread that makes one; a fresh object stands for each call.
        self._under_way: dict[int, object] = {}

    def subscribe(self, on_loss: Callable[[str], None]) -> None:
        """Call ``on_loss`` with a reason when the server is lost."""
        self._on_loss.append(on_loss)
        if len(self._on_loss) == 1:
            threading.Thread(target=self._watch, name="elrun-store-watch", daemon=True).start()

    def call(self, function: Callable[..., _T], *args: Any) -> _T:
        """Return what a function returns that asks the server; it raises when that is lost."""
        thread = threading.get_ident()
        self._under_way[thread] = object()
        try:
            return function(*args)
        finally:
            del self._under_way[thread]

    def end(self) -> None:
        """Look no more."""
        self._ended.set()

    def _watch(self) -> None:
        seen: dict[object, int] = {}
        while not self._ended.wait(self._look_s):
            seen = {call: seen.get(call, 0) + 1 for call in list(self._under_way.values())}
            if max(seen.values(), default=0) >= self._patience_looks:
                self._give_up()
                return

    def _give_up(self) -> None:
        reason = f"it has not answered for {self._look_s * self._patience_looks:g} s"
        for on_loss in self._on_loss:
            on_loss(reason)
        sever(self._peer)


def sever(peer: tuple[str, int]) -> None:
    """Shut down this process's connections to an address and port.

    Args:
        peer: As ``getpeername`` says it; an IPv4 address in its own notation.
    """
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # it is closed by now, or no socket
            # A copy, so that what is looked at can't become another file meanwhile.
            copy = os.dup(int(name))
            try:
                _sever_one(copy, peer)
            finally:
                os.close(copy)


def _sever_one(fd: int, peer: tuple[str, int]) -> None:
    connection = socket.socket(fileno=fd)
    try:
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            address, port = connection.getpeername()[:2]
            if (address.removeprefix(_MAPPED), port) == peer:
                connection.shutdown(socket.SHUT_RDWR)
    finally:
        connection.detach()
