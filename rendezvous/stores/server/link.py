"""The client's end of one connection to a store server."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator

from ...light_typing import Any
from ...network.hosts import host_of
from .channel import Channel, TlsError
from .frames import MAX_FRAME_BYTES, UnsealedError

# Of struct tcp_info (linux/tcp.h): tcpi_retransmits and tcpi_probes, a byte each.
_INFO_BYTES, _RETRANSMITS, _PROBES = 8, 2, 3
# A probe each second, beginning at once; the connection has a minute, as before (``keep_alive``).
_PROBING = {socket.TCP_KEEPINTVL: 1, socket.TCP_KEEPCNT: 60, socket.TCP_KEEPIDLE: 1}
_READ_BYTES = 64 << 10  # the C library maps more than 128 KiB anew for each message
_WHILE_S = 1.0


class Link:
    """A connection over which one thread sends, and another one receives."""

    def __init__(self, connection: socket.socket, channel: Channel | None = None) -> None:
        self._connection = connection
        self._channel = channel or Channel()
        self.number = connection.fileno()
        """The descriptor, as long as the connection is not closed."""
        self.has_answered = False
        """Whether a request was answered over it."""
        self._is_probed = False
        self._began_at = time.monotonic()

    @property
    def peer_address(self) -> str:
        return host_of(self._connection.getpeername())

    @property
    def was_of_use(self) -> bool:
        """Whether a request was answered over it, or it has lasted for a while."""
        return self.has_answered or time.monotonic() - self._began_at >= _WHILE_S

    def begin(self, patience_s: float) -> None:
        """Let writes wait for a while; answers may be long."""
        self._channel.set_limit(MAX_FRAME_BYTES)
        self._connection.settimeout(None)
        limit = struct.pack("ll", int(patience_s), int(patience_s % 1 * 1e6))
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def probe(self) -> bool:
        """Have the kernel ask the other host each second, from now on, whether it is there.

        Returns:
            Whether that host acknowledges nothing: neither these probes nor what was sent.
        """
        try:
            if not self._is_probed:  # once, as each setting sends a probe
                self._is_probed = True
                for option, number in _PROBING.items():
                    self._connection.setsockopt(socket.IPPROTO_TCP, option, number)
            info = self._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        except OSError:  # it is closed, or no TCP
            return False
        return info[_RETRANSMITS] > 0 or info[_PROBES] > 1  # one may be on its way

    def send(self, *frames: bytes, has_more: bool = False) -> None:
        """Send frames.

        Args:
            has_more: Whether the kernel may keep them for a moment, to send them with the next.

        Raises:
            BlockingIOError: The server takes nothing; a part of them may have gone.
            OSError: The connection is broken.
        """
        flags = socket.MSG_MORE if has_more else 0
        self._connection.sendall(self._channel.pack(frames), flags)

    def send_if_possible(self, frame: bytes) -> None:
        """Send the last frame of this connection, or a part of it: what takes no time."""
        with contextlib.suppress(OSError):
            self._connection.send(self._channel.pack([frame]), socket.MSG_DONTWAIT)

    def receive(self) -> Iterator[dict[str, Any]]:
        """Yield the messages that have come; none if nothing has. Does not block.

        Raises:
            ConnectionError: The connection has ended, or is tampered with.
            WireError: What comes is not understood.
        """
        try:
            data = self._connection.recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:  # shut down from this side, or reset
            raise ConnectionError from error
        if not data:
            raise ConnectionError
        try:
            yield from self._channel.receive(data)
        except (UnsealedError, TlsError) as error:
            raise ConnectionError from error

    def shut_down(self) -> None:
        """End the connection, and wake the thread that waits for it."""
        with contextlib.suppress(OSError):  # it is shut down already
            self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._connection.close()
