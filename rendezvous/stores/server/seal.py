"""The seal of a connection whose both ends know the job's secret.

Client and server each send a nonce (``hello.py``). Each direction then has a key of its own:
HMAC-SHA256 of the secret over the version of the protocol, the direction and both nonces. A frame
begins with HMAC-SHA256 of that key over the number of the frame and its text. So no frame can be
changed, left out, repeated, sent in another order, over another connection or back to its sender;
and the first frame proves the secret.
"""

from __future__ import annotations

import hmac

from ..signed import Secret
from .frames import UnsealedError
from .hello import VERSION

SEAL_BYTES = 32
CLIENT, SERVER = b"client", b"server"


class Seal:
    """Seals what one end of a connection sends, and checks the seals of the other end.

    Args:
        nonces: That of the client and that of the server, in this order.
        role: ``CLIENT`` or ``SERVER``: which end this is.
    """

    def __init__(self, secret: Secret, nonces: tuple[bytes, bytes], role: bytes) -> None:
        keys = {
            each: secret.derive(
                b"store server, version %d, %s to other end: " % (VERSION, each) + b"".join(nonces)
            )
            for each in (CLIENT, SERVER)
        }
        self._sends_with = keys.pop(role)
        (self._hears_with,) = keys.values()
        self._sent = 0
        self._heard = 0

    def close(self, text: bytes) -> bytes:
        """Return the content of the next frame: a text with its seal before it."""
        seal = _seal_of(self._sends_with, self._sent, text)
        self._sent += 1
        return seal + text

    def open(self, content: bytes) -> bytes:
        """Return the text of the next frame of the other end.

        Raises:
            UnsealedError: The seal is wrong.
        """
        text = content[SEAL_BYTES:]
        expected = _seal_of(self._hears_with, self._heard, text)
        if not hmac.compare_digest(content[:SEAL_BYTES], expected):
            raise UnsealedError(content)
        self._heard += 1
        return text


def _seal_of(key: bytes, number: int, text: bytes) -> bytes:
    return hmac.digest(key, number.to_bytes(8, "big") + text, "sha256")
