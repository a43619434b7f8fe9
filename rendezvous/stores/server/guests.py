"""Who may be a client of a store server, and what a client may cost."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from .wire import Hello, Refusal


class Limits(NamedTuple):
    """What a client may cost.

    Args:
        hello_s: Seconds until a client has said who it is.
        strangers: Clients that have not said it yet; of more, the one that came first is let go.
        stall_s: Seconds for which a client may read nothing of what waits for it.
        queued_bytes: Bytes that may wait for it.
        waits: Waits that it may have at a time.
    """

    hello_s: float = 5.0
    strangers: int = 128
    stall_s: float = 30.0
    queued_bytes: int = 256 << 20
    waits: int = 4096


class Admitted(NamedTuple):
    """A client is let in.

    Args:
        instead_of: The client whose place it takes, and that is let go.
    """

    instead_of: int | None = None


class Guests(Protocol):
    """Decides who is let in; is asked by the server's own thread. Clients have numbers."""

    def admit(self, hello: Hello, client: int, mark: str, now: float) -> Admitted | Refusal:
        """Let a client in, or not; ``mark`` is the store's own."""

    def hear(self, client: int, now: float) -> None:
        """Take note that a client is alive."""

    def leave(self, client: int) -> None:
        """Take note that a client is gone."""

    def are_missing(self, now: float) -> bool:
        """Return whether anybody is still to come, for whom the door stays open."""

    def changes_in_s(self, now: float) -> float | None:
        """Return the seconds after which that may be otherwise by itself."""
