"""How a rendezvous fails: one small tree of errors."""

from __future__ import annotations


class RendezvousError(Exception):
    """Base of everything that can go wrong between nodes."""


class RendezvousClosedError(RendezvousError):
    """The run has ended, by success or by abort: nobody can join it any more."""


class RendezvousTimeoutError(RendezvousError):
    """Fewer than the minimum of nodes came within the time allowed."""


class RendezvousConnectionError(RendezvousError):
    """The store cannot be reached, or was lost."""


class RendezvousStateError(RendezvousError):
    """A record in the store is not what this protocol writes."""


class RendezvousGracefulExitError(RendezvousError):
    """This node was never needed and leaves: not a failure, the agent exits with 0."""
