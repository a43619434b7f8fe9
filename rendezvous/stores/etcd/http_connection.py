"""One connection to a member of etcd, which speaks as much of HTTP/1.1 as etcd's gateway does.

``http.client`` would add 18 ms of CPU to an agent's start, and makes a request three times as dear.

Each step has a deadline on the monotonic clock, so that a member that sends one byte now and then
delays no other call. One thread at a time uses a connection; any thread may interrupt it.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ...named_tuple import NamedTuple
from ...network.addresses import Endpoint
from ...network.hosts import host_of, keep_alive

if TYPE_CHECKING:
    from ssl import SSLContext

_READ_BYTES = 64 << 10  # the C library maps more than 128 KiB anew for each read
_EXACT_S = 0.01
"""By how much the end of a step may differ from its deadline: a socket is not told each time."""
_MOST_HEAD_BYTES = 64 << 10
_MOST_BODY_BYTES = 256 << 20
_FIRST_FINAL_STATUS = 200
_NO_CONTENT = (204, 304)


class HttpError(ConnectionError):
    """The other side does not speak HTTP."""


class ConnectionEndedError(ConnectionResetError):
    """The other side has ended the connection in good order, in the middle of an answer."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "it has closed the connection")


class Head(NamedTuple):
    """The beginning of an answer.

    Args:
        fields: Values by name, in lower case.
    """

    status: int
    fields: dict[bytes, bytes]


class Place:
    """Where a member of etcd is: its endpoint, and the address there that was reached last.

    A node that has reached the member does not depend on a name server, which may not answer for
    half a minute, until it loses the member.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.known = endpoint
        """The endpoint by its address; by its name, if that has to be looked up."""

    def connect(self, deadline: float) -> socket.socket:
        """Return a connection to the first of the host's addresses that takes one.

        Raises:
            OSError: None does.
        """
        try:
            found = socket.getaddrinfo(*self.known, type=socket.SOCK_STREAM)
        except UnicodeError:  # a name that is too long, or has an empty part
            raise OSError(errno.EINVAL, "it can't be a host name") from None
        failure: OSError = OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
        for number, (family, kind, protocol, _, address) in enumerate(found):
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(_left_s(deadline) / (len(found) - number))
                connection.connect(address)
                keep_alive(connection)
            except OSError as error:
                connection.close()
                failure = error
            except BaseException:  # of a signal's handler: the descriptor would stay open
                connection.close()
                raise
            else:
                self.known = self.endpoint._replace(host=host_of(address))
                return connection
        raise failure

    def forget(self) -> None:
        """Look the name up before the next connection is made."""
        self.known = self.endpoint


class HttpConnection:
    """A connection that is open.

    Whatever uses it raises ``OSError`` where the connection is lost or can't be made, and
    ``TimeoutError`` where that takes too long.

    Args:
        deadline: Until when it must stand.
    """

    def __init__(self, place: Place, tls: SSLContext | None, deadline: float) -> None:
        self._socket = place.connect(deadline)
        if tls is not None:
            try:
                self._socket.settimeout(_left_s(deadline))
                self._socket = tls.wrap_socket(self._socket, server_hostname=place.endpoint.host)
            except BaseException:
                self._socket.close()
                raise
        self._allowed_s = -1.0
        self._buffer = b""
        # Bytes of the body, or of its present chunk, that are still to come; None: up to the end of
        # the connection.
        self._left: int | None = 0
        self._is_chunked = False
        self.is_reusable = True
        """Whether it can take another request, once the answer to this one has been read."""

    def ask(self, request: bytes, deadline: float) -> tuple[Head, bytes]:
        """Send a request; return the whole answer."""
        self.send(request, deadline)
        head = self.read_head(deadline)
        parts, size = [], 0
        while part := self.read(deadline):
            parts.append(part)
            size += len(part)
            if size > _MOST_BODY_BYTES:
                raise HttpError(errno.EMSGSIZE, "its answer has no end")
        return head, b"".join(parts)

    def send(self, request: bytes, deadline: float) -> None:
        """Send a request; ``read_head`` and ``read`` return the answer."""
        self._allow_until(deadline)
        self._socket.sendall(request)

    def read_head(self, deadline: float) -> Head:
        """Return the head of the answer; a call that was late may be repeated."""
        while True:
            while (end := self._buffer.find(b"\r\n\r\n")) < 0:
                if len(self._buffer) > _MOST_HEAD_BYTES:
                    raise HttpError(errno.EPROTO, "it does not speak HTTP")
                self._fill(deadline)
            first, *lines = self._buffer[:end].split(b"\r\n")
            self._buffer = self._buffer[end + 4 :]
            version, _, rest = first.partition(b" ")
            if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
                raise HttpError(errno.EPROTO, "it does not speak HTTP")
            head = Head(int(rest[:3]), dict(map(_field, lines)))
            if head.status >= _FIRST_FINAL_STATUS:
                self._expect_body(version, head)
                return head

    def read(self, deadline: float) -> bytes:
        """Return the next part of the answer's body; nothing at its end.

        A call that was late may be repeated.
        """
        if self._is_chunked and self._left == 0:
            self._left = self._next_chunk(deadline)
            if self._left == 0:
                while self._line(deadline):  # fields after the body
                    pass
                self._is_chunked = False
        if self._left == 0:
            return b""
        if not self._buffer:
            try:
                self._fill(deadline)
            except ConnectionEndedError:
                if self._left is None:
                    return b""
                raise
        part = self._buffer[: self._left]
        self._buffer = self._buffer[len(part) :]
        if self._left is not None:
            self._left -= len(part)
        return part

    def fileno(self) -> int:
        """Return the connection's descriptor."""
        return self._socket.fileno()

    def interrupt(self) -> None:
        """Let the thread that reads find the connection at its end."""
        # Not SSLSocket's own: that would take the encryption away under the reader.
        with suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of it; no other thread reads."""
        self._socket.close()

    def _expect_body(self, version: bytes, head: Head) -> None:
        fields = head.fields
        length = fields.get(b"content-length", b"")
        self._is_chunked = fields.get(b"transfer-encoding", b"").lower() == b"chunked"
        if self._is_chunked or head.status in _NO_CONTENT:
            self._left = 0
        else:
            self._left = int(length) if length.isdigit() else None
        wish = fields.get(b"connection", b"").lower()
        keeps = wish != b"close" if version == b"HTTP/1.1" else wish == b"keep-alive"
        self.is_reusable = keeps and self._left is not None

    def _next_chunk(self, deadline: float) -> int:
        line = self._line(deadline) or self._line(deadline)  # the first one ends the last chunk
        try:
            return int(line.partition(b";")[0], 16)
        except ValueError:
            raise HttpError(errno.EPROTO, "it does not speak HTTP") from None

    def _allow_until(self, deadline: float) -> None:
        """Let the next step take until a deadline."""
        left_s = _left_s(deadline)
        if abs(left_s - self._allowed_s) > _EXACT_S:
            self._socket.settimeout(left_s)
            self._allowed_s = left_s

    def _line(self, deadline: float) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > _MOST_HEAD_BYTES:
                raise HttpError(errno.EPROTO, "it does not speak HTTP")
            self._fill(deadline)
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        return line

    def _fill(self, deadline: float) -> None:
        self._allow_until(deadline)
        data = self._socket.recv(_READ_BYTES)
        if not data:
            raise ConnectionEndedError
        self._buffer += data


def _left_s(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.strip().lower(), value.strip()
