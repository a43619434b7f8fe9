"""Whether a client that has introduced itself is let in, and with which session."""

from __future__ import annotations

from collections.abc import Callable

from .guests import Admitted, Guests
from .hello import UNKNOWN_SESSION, VERSION, Hello, Refusal
from .peer import Peer
from .sessions import Session, Sessions


class Reception:
    """Decides about clients; belongs to the server's thread.

    Args:
        guests: Decides which clients belong to the run.
        sessions: Those that the server knows.
        mark: The store's own.
        name: What people call the place.
        most: How many clients there may be.
        clock: A monotonic clock.
    """

    def __init__(
        self,
        guests: Guests,
        sessions: Sessions,
        mark: str,
        name: str,
        most: int,
        clock: Callable[[], float],
    ) -> None:
        self._guests = guests
        self._sessions = sessions
        self._mark = mark
        self._name = name
        self._most = most
        self._clock = clock

    def __call__(
        self, hello: Hello | int, peer: Peer, clients: int
    ) -> Refusal | tuple[Session, Admitted]:
        """Return the client's session, a new one or the one that it goes on with, or a refusal.

        Args:
            hello: What it says of itself; a number: the version of the protocol that it speaks.
            peer: Its connection.
            clients: How many there are already.
        """
        name = self._name
        if isinstance(hello, int):
            return Refusal(
                "version",
                f"{name} speaks version {VERSION} of elrun's protocol, and this node {hello}: run "
                "the same version of elrun on every node",
            )
        if clients >= self._most:
            return Refusal("full", f"{name} has {self._most} clients already")
        session = self._sessions.find(hello.session) if hello.session else None
        if session is None and hello.resumes:
            return Refusal(UNKNOWN_SESSION, f"{name} does not know this node's session")
        answer = self._guests.admit(hello, peer.number, self._mark, self._clock())
        if isinstance(answer, Refusal):
            return answer
        return session or self._sessions.begin(hello.session, hello.host), answer
