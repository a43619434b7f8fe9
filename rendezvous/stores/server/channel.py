"""What is between the messages of one connection and its bytes: frames, seals, TLS. No socket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...light_typing import Any
from .frames import FrameReader, WireError, content_of, framed
from .hello import MAX_HELLO_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .seal import Seal
    from .tls import TlsStream

# The first byte of TLS: a handshake or an alert. A frame that begins with it would be too long.
_TLS_RECORDS = frozenset({0x15, 0x16})


class OtherProtectionError(WireError):
    """One side has begun with TLS, and the other without."""

    def __init__(self, data: bytes, *, is_tls: bool) -> None:
        super().__init__(
            "it begins with TLS, and this node has no certificates (--rdzv-conf cacert=...)"
            if is_tls
            else "it does not begin with TLS, as nodes with certificates do"
        )
        self.data = data


class TlsError(WireError):
    """There is no TLS with the other side; the sentence says why."""


class Channel:
    """One end of a connection, from bytes to messages and back."""

    def __init__(self, tls: TlsStream | None = None) -> None:
        self._frames = FrameReader(MAX_HELLO_BYTES)
        self._tls = tls
        self._seal: Seal | None = None
        self._has_heard = False

    @property
    def is_sealed(self) -> bool:
        """Whether frames have seals by now."""
        return self._seal is not None

    @property
    def has_begun_tls(self) -> bool:
        """Whether the other side has begun with TLS, and takes nothing in plain any more."""
        return self._tls is not None and self._has_heard

    @property
    def buffered(self) -> int:
        """How many bytes of a frame have come whose end has not."""
        return self._frames.buffered

    def set_limit(self, frame_bytes: int) -> None:
        """Set how many bytes a frame of the other side may have."""
        self._frames.limit = frame_bytes

    def seal_with(self, seal: Seal | None) -> None:
        """Seal what is packed from now on, and want seals on what comes."""
        self._seal = seal
        self._frames.unseal = None if seal is None else seal.open

    def drop_protection(self) -> None:
        """Send in plain from now on, to a side without this protection: why it is refused."""
        self._tls = self._seal = None

    def receive(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Return the messages that are complete now, each read when it is asked for.

        Raises:
            WireError: What came is no message; or its seal, or the other side, is a wrong one.
        """
        if not self._has_heard and data:
            self._has_heard = True
            is_tls = data[0] in _TLS_RECORDS
            if is_tls != (self._tls is not None):
                raise OtherProtectionError(data, is_tls=is_tls)
        return self._frames.feed(data if self._tls is None else self._tls.receive(data))

    def pack(self, frames: Iterable[bytes]) -> bytes:
        """Return the bytes to be sent for some frames, and those that TLS has to say by itself."""
        if self._seal is not None:
            close = self._seal.close
            frames = [framed(close(content_of(frame))) for frame in frames]
        data = b"".join(frames)
        return data if self._tls is None else self._tls.send(data)
