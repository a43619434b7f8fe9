"""The listening socket of a store server: open while a node is missing, shut otherwise."""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections.abc import Iterator

from ...logs import Log
from ...network.hosts import keep_alive
from .guests import Guests

log = Log(__name__)

_ACCEPT_AT_ONCE = 64
_PAUSE_WITHOUT_FDS_S = 0.1
_PAUSE_WITHOUT_ROOM_S = 0.05
_MAPPED = "::ffff:"  # before an IPv4 address, at a socket of both kinds
_OUT_OF_FDS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Door:
    """Accepts connections; belongs to the server's thread."""

    def __init__(self, guests: Guests, selector: selectors.BaseSelector) -> None:
        self._guests = guests
        self._selector = selector
        self._listener: socket.socket | None = None
        self._is_open = False
        self._opens_after = 0.0
        self._has_reported = False

    def set_listener(self, listener: socket.socket | None, now: float) -> None:
        """Accept connections at another socket, or at none."""
        if self._is_open and self._listener is not None:
            self._selector.unregister(self._listener)
        self._listener, self._is_open = listener, False
        self.move(now)

    def is_at(self, source: object) -> bool:
        return source is self._listener

    def move(self, now: float) -> None:
        """Open the door if a node is missing, or shut it."""
        if self._listener is None:
            return
        shall_open = now >= self._opens_after and self._guests.are_missing(now)
        if shall_open and not self._is_open:
            self._selector.register(self._listener, selectors.EVENT_READ)
        elif self._is_open and not shall_open:
            self._selector.unregister(self._listener)
        self._is_open = shall_open

    def changes_in_s(self, now: float) -> float | None:
        """Return the seconds after which the door may have to move."""
        if self._listener is None:
            return None
        if self._opens_after > now:
            return self._opens_after - now
        return self._guests.changes_in_s(now)

    def accept(self, now: float, most: int) -> Iterator[tuple[socket.socket, str]]:
        """Yield connections that have come, each with the address of the other side.

        Args:
            most: How many there is room for; if there is none, the door is shut for a moment.
        """
        if most <= 0:
            self._opens_after = now + _PAUSE_WITHOUT_ROOM_S
            self.move(now)
        for _ in range(min(most, _ACCEPT_AT_ONCE)):
            if self._listener is None or not self._is_open:
                return
            try:
                connection, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _OUT_OF_FDS:
                    self._report_shortage(error)
                    self._opens_after = now + _PAUSE_WITHOUT_FDS_S
                    self.move(now)
                    return
                continue  # it has gone again
            try:
                keep_alive(connection)
            except OSError:  # it was reset already
                connection.close()
                continue
            yield connection, str(address[0]).removeprefix(_MAPPED)

    def _report_shortage(self, error: OSError) -> None:
        if not self._has_reported:
            self._has_reported = True
            log.warning(
                "a node that comes has to wait: %s (ulimit -n); the host of the rendezvous needs "
                "an open file for each node",
                os.strerror(error.errno or 0),
            )
