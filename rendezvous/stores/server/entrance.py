"""The first messages of a store server's client, up to its hello: has it the secret of the job?"""

from __future__ import annotations

from collections.abc import Mapping

from ...light_typing import Any
from ...named_tuple import NamedTuple
from .channel import Channel, OtherProtectionError
from .frames import UnsealedError, WireError
from .guard import NO_SECRET_HERE, NO_TLS_HERE, OTHER_SECRET, SECRET_WANTED, TLS_WANTED, Guard
from .hello import OTHER_RUN, VERSION, Hello, Opening, Refusal, new_nonce, open_with, read_first

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .seal import Seal


class Nonce(NamedTuple):
    """An answer to a client with a secret.

    Args:
        nonce: To be sent as it is.
        seal: Of all that follows.
    """

    nonce: bytes
    seal: Seal


class Entrance:
    """Takes clients as far as their hello."""

    def __init__(self, guard: Guard | None = None, run_id: str = "") -> None:
        self._guard = guard or Guard()
        self._run_id = run_id

    def channel(self) -> Channel:
        tls = self._guard.tls
        return Channel(None if tls is None else tls.of_server())

    def take(
        self, channel: Channel, message: Mapping[str, Any], *, is_trusted: bool
    ) -> Hello | Refusal | Nonce:
        """Return the client's hello, a refusal, or a nonce for it.

        Args:
            is_trusted: Whether the client is in this process.
        """
        first = read_first(message)
        if isinstance(first, int):
            return Refusal(
                "version",
                f"it speaks version {VERSION} of elrun's protocol, and this node {first}: run the "
                "same version of elrun on every node",  # no name: a stranger may ask
            )
        secret = self._guard.secret
        if (
            isinstance(first, Hello)
            and secret is not None
            and not (is_trusted or channel.is_sealed)
        ):
            is_ours = first.run_id == self._run_id
            return Refusal(SECRET_WANTED if is_ours else OTHER_RUN, "")
        if not isinstance(first, Opening):
            return first
        if first != open_with(first.nonce, self._run_id):
            return Refusal(OTHER_RUN, "")
        if secret is None or channel.is_sealed:
            return Refusal(NO_SECRET_HERE, "")
        from .seal import SERVER, Seal  # only a job with a secret needs it

        nonce = new_nonce()
        return Nonce(nonce, Seal(secret, (first.nonce, nonce), SERVER))

    def refusal_for(self, error: WireError) -> Refusal | None:
        """Return the refusal for a first message that was not understood; None: none is sent."""
        if isinstance(error, OtherProtectionError):
            return Refusal(NO_TLS_HERE if self._guard.tls is None else TLS_WANTED, "")
        return Refusal(OTHER_SECRET, "") if isinstance(error, UnsealedError) else None
