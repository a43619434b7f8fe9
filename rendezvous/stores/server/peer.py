"""One connection of a store server: the bytes that wait for its client, and those that came."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import deque

from .channel import Channel
from .sessions import Session
from .wire import LongAnswer

_SEND_BYTES = 256 << 10
_READ_BYTES = 16 << 10
# Of a stranger, and of a client that is slow: TLS has 150 changes of keys in them, each of 40 µs.
_FEW_READ_BYTES = 4 << 10
_SLOW_S = 0.001
# For so many turns a client is measured, or counts as slow, that took longer than that in one.
_SLOW_TURNS = 64
_SHORT_ANSWER_BYTES = 256  # what it takes to keep one for later, besides its own bytes
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
        self.attended_at = came_at
        self.has_unread = False
        """Whether requests have come that are not read yet."""
        # When it has to have introduced itself, or to have read some of the bytes that wait for it.
        self.deadline: float | None = deadline
        self._out = bytearray()
        # Answers behind a long one, and their bytes.
        self._later: deque[LongAnswer] = deque()
        self._later_bytes = 0
        self._measured_turns = self._slow_turns = 0

    @property
    def queued(self) -> int:
        """How many bytes wait for the client."""
        return len(self._out) + self._later_bytes

    @property
    def is_costly(self) -> bool:
        """Whether to attend to it takes time, as it asks for much, or has taken long before."""
        return self.has_unread or bool(self._later) or self._slow_turns > 0

    @property
    def is_measured(self) -> bool:
        """Whether ``note_turn`` is to be told the CPU time of a turn instead of its duration."""
        return self._measured_turns > 0

    def note_turn(self, took_s: float) -> None:
        """Take note of what it took to attend to this client once.

        Args:
            took_s: Seconds by the clock, which is cheap to ask, and counts as well what other
                threads and processes did meanwhile; or by the CPU, if ``is_measured``.
        """
        is_slow = took_s > _SLOW_S
        turns = _SLOW_TURNS if is_slow and self.is_measured else self._slow_turns - 1
        self._slow_turns = max(0, turns)
        self._measured_turns = _SLOW_TURNS if is_slow else max(0, self._measured_turns - 1)

    def receive(self) -> bytes:
        """Return some of the bytes that have come; empty: the client has ended its half.

        Raises:
            BlockingIOError: None have come.
            OSError: The connection is broken.
        """
        takes_few = self.session is None or self._slow_turns
        return self.connection.recv(_FEW_READ_BYTES if takes_few else _READ_BYTES)

    def weigh(self) -> int:
        """Return by how much the bytes that are held for this client have grown."""
        before, self.held = self.held, self.queued + self.channel.buffered
        return self.held - before

    def queue(self, frames: LongAnswer | list[bytes]) -> None:
        """Let frames wait for the client."""
        if not self._later and isinstance(frames, list):
            self._out += self.channel.pack(frames)
            return
        if isinstance(frames, list):
            frames = LongAnswer(iter(frames), _SHORT_ANSWER_BYTES + sum(map(len, frames)))
        self._later.append(frames)
        self._later_bytes += frames.size

    def flush(self) -> bool:
        """Send as much as the kernel takes; return whether it took anything."""
        self._out += self.channel.pack(())  # what TLS has to say by itself
        self._write_later()
        has_sent = False
        try:
            while self._out:
                if len(self._out) <= _SEND_BYTES:
                    sent = self.connection.send(self._out)
                else:
                    with memoryview(self._out) as view:
                        sent = self.connection.send(view[:_SEND_BYTES])
                del self._out[:sent]
                has_sent = True
        except BlockingIOError:
            pass
        return has_sent

    def _write_later(self) -> None:
        """Make frames of answers that wait, if few bytes wait: of long ones, one at a time."""
        while self._later and len(self._out) <= _SEND_BYTES:
            frames, size = self._later[0]
            frame = next(frames, None)
            if frame is None:
                self._later.popleft()
                self._later_bytes -= size
            else:
                self._out += self.channel.pack([frame])

    def discard_unsent(self) -> None:
        """Let not even the kernel keep anything for the client."""
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
