"""Notices that a server answers no more, and breaks all connections to it off.

TCP bears silence for a quarter of an hour, and torch for as long as TCP does: a host that froze, or
whose cable was cut, refuses nothing. So calls that are to be answered at once are looked at now and
then. One that was seen under way too often means that the server is lost. Then the sockets are shut
down, from which every thread that is stuck in one comes back with an error.

A look counts as much however long it was to the last one: if this very process was stopped, the
server is not to blame. TCP asks again at ever longer intervals, and so may still get through 51 s
after a cable was cut: within the patience by default.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from ...protocol.timing import STORE_PATIENCE_S
from ...threads import start_thread

log = logging.getLogger(__name__)

LOOK_S = 0.5
_TELL_AFTER_LOOKS = 5

_MAPPED = "::ffff:"  # before an IPv4 address that a socket of both kinds is connected to

_T = TypeVar("_T")


class AnswerWatch:
    """Looks at the calls to one server.

    Args:
        peer: Address and port of the server.
        name: What people call the server.
        patience_s: How long a call may go unanswered.
        look_s: Seconds between two looks.
    """

    def __init__(
        self,
        peer: tuple[str, int],
        name: str = "",
        patience_s: float = STORE_PATIENCE_S,
        look_s: float = LOOK_S,
    ) -> None:
        self._peer = peer
        self._name = name
        self._patience_s = patience_s
        self._look_s = look_s
        # One look alone may come at once after a call's begin.
        self._patience_looks = 1 + math.ceil(patience_s / look_s)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._on_loss: list[Callable[[str], None]] = []
        # The call of each thread that makes one; a fresh object stands for each call.
        self._under_way: dict[int, object] = {}

    def subscribe(self, on_loss: Callable[[str], None]) -> None:
        """Call ``on_loss`` with a reason when the server is lost."""
        self._on_loss.append(on_loss)
        if self._thread is None:
            self._thread = start_thread(
                threading.Thread(target=self._watch, name="elrun-store-watch", daemon=True)
            )

    def unsubscribe(self, on_loss: Callable[[str], None]) -> None:
        """Call it no more; look no more once nobody is left to be called."""
        with contextlib.suppress(ValueError):  # it was done before
            self._on_loss.remove(on_loss)
            if not self._on_loss:
                self._ended.set()

    def call(self, function: Callable[..., _T], *args: Any) -> _T:
        """Return what a function returns that asks the server; it raises when that is lost."""
        thread = threading.get_ident()
        self._under_way[thread] = object()
        try:
            return function(*args)
        finally:
            del self._under_way[thread]

    def _watch(self) -> None:
        seen: dict[object, int] = {}
        is_told = False
        while not self._ended.wait(self._look_s):
            seen = {call: seen.get(call, 0) + 1 for call in list(self._under_way.values())}
            looks = max(seen.values(), default=0)
            if looks >= self._patience_looks:
                self._give_up()
                return
            if not is_told and looks > _TELL_AFTER_LOOKS:
                is_told = True
                log.warning(
                    "the rendezvous store at %s does not answer; it is waited for up to %g s "
                    "(--rdzv-conf store_patience=...)",
                    self._name,
                    self._patience_s,
                )
            elif is_told and looks <= 1:
                is_told = False
                log.warning("the rendezvous store at %s answers again", self._name)

    def _give_up(self) -> None:
        reason = f"it has not answered for {self._patience_s:g} s (--rdzv-conf store_patience=...)"
        for on_loss in list(self._on_loss):
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
