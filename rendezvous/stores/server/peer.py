"""One connection of a store server: the bytes that wait for its client, and those that came."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable

from .channel import Channel
from .sessions import Session

_SEND_BYTES = 256 << 10
_NO_LINGER = struct.pack("ii", 1, 0)


class Peer:
    """A connection that the server has accepted.

    Args:
        number: Its number; no two connections of a server have one.
        name: What people call the other side; empty: it is in this process.
    """

    def __init__(
        self,
        connection: socket.socket,
        channel: Channel,
        number: int,
        name: str,
        came_at: float,
        deadline: float,
    ) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.channel = channel
        self.number = number
        self.name = name
        self.came_at = came_at
        self.first_bytes = b""
        self.session: Session | None = None
        self.is_leaving = False
        self.held = 0
        # When it has to have introduced itself, or to have read some of the bytes that wait for it.
        self.deadline: float | None = deadline
        self._out = bytearray()

    @property
    def queued(self) -> int:
        """How many bytes wait for the client."""
        return len(self._out)

    def weigh(self) -> int:
        """Return by how much the bytes that are held for this client have grown."""
        before, self.held = self.held, len(self._out) + self.channel.buffered
        return self.held - before

    def queue(self, frames: Iterable[bytes]) -> None:
        """Let frames wait for the client."""
        self._out += self.channel.pack(frames)

    def flush(self) -> bool:
        """Send as much as the kernel takes; return whether it took anything."""
        self._out += self.channel.pack(())  # what TLS has to say by itself
        before = len(self._out)
        try:
            while self._out:
                if len(self._out) <= _SEND_BYTES:
                    sent = self.connection.send(self._out)
                else:
                    with memoryview(self._out) as view:
                        sent = self.connection.send(view[:_SEND_BYTES])
                del self._out[:sent]
        except BlockingIOError:
            pass
        return len(self._out) < before

    def close(self) -> None:
        """Close the connection; the kernel still sends what it has."""
        self.connection.close()

    def discard_unsent(self) -> None:
        """Let not even the kernel keep anything for the client."""
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
