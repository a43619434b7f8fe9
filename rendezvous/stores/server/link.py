"""The client's end of one connection to a store server."""

from __future__ import annotations

import contextlib
import socket
import struct

from ...network.hosts import host_of
from .channel import Channel, TlsError
from .frames import MAX_FRAME_BYTES, UnsealedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_READ_BYTES = 64 << 10  # the C library maps more than 128 KiB anew for each message


class Link:
    """A connection over which one thread sends, and another one receives."""

    def __init__(self, connection: socket.socket, channel: Channel | None = None) -> None:
        self._connection = connection
        self._channel = channel or Channel()

    @property
    def peer_address(self) -> str:
        """The address of the server's host."""
        return host_of(self._connection.getpeername())

    def begin(self, patience_s: float) -> None:
        """Let reads wait without end, and writes for a while; answers may be long."""
        self._channel.set_limit(MAX_FRAME_BYTES)
        self._connection.settimeout(None)
        limit = struct.pack("ll", int(patience_s), int(patience_s % 1 * 1e6))
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def send(self, *frames: bytes) -> None:
        """Send frames.

        Raises:
            BlockingIOError: The server takes nothing; a part of them may have gone.
            OSError: The connection is broken.
        """
        self._connection.sendall(self._channel.pack(frames))

    def send_if_possible(self, frame: bytes) -> None:
        """Send the last frame of this connection, or a part of it: what takes no time."""
        with contextlib.suppress(OSError):
            self._connection.send(self._channel.pack([frame]), socket.MSG_DONTWAIT)

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield the messages that come, until the connection ends or is tampered with.

        Raises:
            WireError: What comes is not understood.
        """
        while True:
            try:
                data = self._connection.recv(_READ_BYTES)
            except OSError:  # shut down from this side, or reset
                return
            if not data:
                return
            try:
                yield from self._channel.receive(data)
            except (UnsealedError, TlsError):
                return

    def shut_down(self) -> None:
        """End the connection, and wake the thread that receives."""
        with contextlib.suppress(OSError):  # it is shut down already
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the socket."""
        self._connection.close()
