"""TLS for the connections of a store server; both sides show a certificate.

``TlsStream`` reads and writes no socket: it makes bytes of bytes. So the server's one loop serves
a client whose handshake is slow like any other.
"""

from __future__ import annotations

import contextlib
import ssl
import threading

from ...api.parameters import TlsFiles
from .channel import TlsError

_HOW = "--rdzv-conf cacert=..., cert=..., key=..."
_READ_BYTES = 256 << 10


class TlsStream:
    """One end of a TLS connection.

    Two threads may use it at once: one receives and one sends.

    Args:
        server_name: The name or address that the server's certificate has to show; None where
            this end is the server.
    """

    def __init__(self, context: ssl.SSLContext, server_name: str | None) -> None:
        self._lock = threading.Lock()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_name is None,
            server_hostname=server_name,
        )
        self.is_established = False
        self._is_ended = False

    def receive(self, data: bytes) -> bytes:
        """Return what the other side's bytes say; empty during the handshake.

        Raises:
            TlsError: The other side can't be believed, or does not believe this one.
            ConnectionAbortedError: It has said before that no more comes.
        """
        with self._lock:
            if self._is_ended:  # OpenSSL would keep these bytes, and read none of them
                raise ConnectionAbortedError
            self._incoming.write(data)
            parts = []
            try:
                if not self.is_established:
                    self._tls.do_handshake()
                    self.is_established = True
                while part := self._tls.read(_READ_BYTES):
                    parts.append(part)
                self._is_ended = True  # else there would be more to wait for
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:
                self._is_ended = True
            except ssl.SSLError as error:
                raise TlsError(_sentence_of(error)) from error
            return b"".join(parts)

    def send(self, data: bytes) -> bytes:
        """Return the bytes that say this to the other side, and what the handshake has to say."""
        with self._lock:
            if data:
                self._tls.write(data)
            return self._outgoing.read()


class Tls:
    """The certificates of one node.

    Raises:
        ValueError: A file can't be read, or the certificates don't fit each other.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._server = _context(files, ssl.PROTOCOL_TLS_SERVER)
        self._client = _context(files, ssl.PROTOCOL_TLS_CLIENT)
        self._check(files)

    def of_server(self) -> TlsStream:
        """Return the server's end of a new connection."""
        return TlsStream(self._server, None)

    def of_client(self, server_name: str) -> TlsStream:
        """Return the client's end; the server's certificate has to show this name or address."""
        return TlsStream(self._client, server_name.partition("%")[0])

    def _check(self, files: TlsFiles) -> None:
        """Let this node meet itself: its certificate has to be one that others accept."""
        anybody = _context(files, ssl.PROTOCOL_TLS_CLIENT)
        anybody.check_hostname = False
        client, server = TlsStream(anybody, "this-node"), TlsStream(self._server, None)
        try:
            data = b""
            while not (client.is_established and server.is_established):
                client.receive(data)
                data = client.send(b"")
                with contextlib.suppress(ssl.SSLWantReadError):
                    server.receive(data)
                data = server.send(b"")
        except TlsError as error:
            raise ValueError(
                f"--rdzv-conf cert={files.cert}: other nodes would refuse this certificate by "
                f"cacert={files.cacert}: {_reason_of(error)}"
            ) from error


def _context(files: TlsFiles, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0  # a client that comes back shows its certificate again
    try:
        context.load_verify_locations(files.cacert)
    except ssl.SSLError as error:
        raise ValueError(f"--rdzv-conf cacert={files.cacert}: it has no certificates") from error
    try:
        # Without a password, OpenSSL would ask for one on the terminal.
        context.load_cert_chain(files.cert, files.key, password="")
    except ssl.SSLError as error:
        raise ValueError(
            f"--rdzv-conf cert={files.cert}, key={files.key}: these are no certificate and its key "
            f"without a password, both as PEM: {_sentence_of(error)}"
        ) from error
    return context


def _reason_of(error: TlsError) -> str:
    """Return why TLS with this node itself fails: there is no other side."""
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"{cause.verify_message} ({_HOW})"
    return str(error)


def _sentence_of(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the other side's certificate is not valid here: {error.verify_message} ({_HOW})"
    reason = (error.reason or error.strerror or "unknown").replace("_", " ").lower()
    alert = reason.partition(" alert ")[2]
    if alert == "unknown ca" or "certificate" in alert:
        return f"the other side does not accept this node's certificate: TLS alert {alert} ({_HOW})"
    return f"TLS fails: {reason} ({_HOW})"
