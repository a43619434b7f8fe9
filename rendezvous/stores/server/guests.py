"""Which clients a store server lets in, and what a client may cost."""

from __future__ import annotations

from ...named_tuple import NamedTuple
from .hello import OTHER_RUN, Hello, Refusal


class ClientLimits(NamedTuple):
    """What a client may cost.

    Args:
        hello_s: Seconds until a client has introduced itself.
        strangers: Clients that have not done so yet; for more, the one that came first makes room.
        chance_s: Seconds for which none of them has to make room; more clients wait so long.
        clients: Clients that have done so; more are refused.
        stall_s: Seconds for which a client may read nothing of the bytes that wait for it.
        queued_bytes: Bytes that may wait for it.
        held_bytes: Bytes that may wait for all clients, or have come as a part of a frame; of more,
            the client with the most is let go.
        waits: Waits that it may have at a time.
        session_s: Seconds for which its session is kept while it has no connection.
    """

    hello_s: float = 5.0
    strangers: int = 1024
    chance_s: float = 0.5
    clients: int = 131_072
    stall_s: float = 30.0
    queued_bytes: int = 256 << 20
    held_bytes: int = 1 << 30
    waits: int = 512
    session_s: float = 600.0


class Admitted(NamedTuple):
    """A client is let in.

    Args:
        instead_of: The client that it replaces; the server closes the connection of that one.
    """

    instead_of: int | None = None


class Guests:
    """Decides which clients are let in; belongs to the server's thread. Clients have numbers.

    Here it is anybody, at any time.
    """

    def admit(self, hello: Hello, client: int, mark: str, now: float) -> Admitted | Refusal:
        """Let a client in, or not; ``mark`` is the store's own."""
        return Admitted()

    def hear(self, client: int, now: float) -> None:
        """Take note that a client is alive."""

    def leave(self, client: int) -> None:
        """Take note that a client is gone."""

    def are_missing(self, now: float) -> bool:
        """Return whether anybody is still to come, for whom the door stays open."""
        return True

    def changes_in_s(self, now: float) -> float | None:
        """Return the seconds after which that may be otherwise by itself."""
        return None


class NodesOfRun(Guests):
    """All nodes of one run, and nobody else; heartbeats and wills tell which of them live."""

    def __init__(self, me: Hello) -> None:
        self._me = me

    def admit(self, hello: Hello, client: int, mark: str, now: float) -> Admitted | Refusal:
        if hello.run_id != self._me.run_id:
            return Refusal(
                OTHER_RUN,
                f"it is the store of run {self._me.run_id!r}, and ends with that run; wait for its "
                "end, or give this job an endpoint of its own (another port in --rdzv-endpoint)",
            )
        if hello.node_rank is not None:
            return Refusal(
                "rendezvous",
                f"{self._me.host} meets the nodes of run {self._me.run_id!r} with --rdzv-backend "
                f"c10d, and {hello.host} with static: give the same options on every node",
            )
        return Admitted()
