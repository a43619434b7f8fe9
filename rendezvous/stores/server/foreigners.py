"""Log lines about connections that no node of the job has made."""

from __future__ import annotations

from ...logs import Log
from .channel import OtherProtectionError, TlsError
from .frames import UnsealedError, WireError
from .guard import HOW_SECRET, NO_SECRET_HERE, SECRET_WANTED
from .hello import Refusal
from .peer import Peer

log = Log(__name__)

_MOST_NAMED = 16
_TORCH = b"\0\xce\xf7\x85\x3c"
"""What a client of torch's TCPStore begins with."""
_ALL_THE_SAME = f"give all nodes of the run the same ({HOW_SECRET})"
_OTHERS_SECRETS = {
    SECRET_WANTED: f"it has no secret, and this node has one; {_ALL_THE_SAME}",
    NO_SECRET_HERE: f"it has a secret, and this node has none; {_ALL_THE_SAME}",
}


class Foreigners:
    """Names each address from which a foreign program came, once."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._named: set[str] = set()

    def report_refusal(self, peer: Peer, refusal: Refusal) -> None:
        """Log that a client of the run was refused for a secret that it or this node lacks."""
        if refusal.kind in _OTHERS_SECRETS:
            self._name(peer, _OTHERS_SECRETS[refusal.kind])

    def report(self, peer: Peer, error: WireError) -> None:
        """Log that a client sent a message that was not understood."""
        log.info("%s: %s is let go: %s", self._place, peer.name, error)
        if peer.session is None:
            self._name(peer, _reason_of(peer, error))

    def _name(self, peer: Peer, reason: str) -> None:
        if peer.name in self._named or len(self._named) >= _MOST_NAMED:
            return
        self._named.add(peer.name)
        log.warning("%s: a connection from %s was refused, as %s", self._place, peer.name, reason)


def _reason_of(peer: Peer, error: WireError) -> str:
    if isinstance(error, OtherProtectionError | TlsError | UnsealedError):
        return str(error)
    is_torch = peer.first_bytes.startswith(_TORCH)
    speaks = "torchrun or torch's TCPStore speaks there" if is_torch else "it isn't elrun's"
    return f"{speaks}; every node of a job must run elrun"
