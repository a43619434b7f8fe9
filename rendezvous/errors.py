"""The errors of a rendezvous: one small tree."""

from __future__ import annotations


class RendezvousError(Exception):
    """Base of all errors between nodes."""


class RendezvousClosedError(RendezvousError):
    """The run has ended, by success or by abort: no node can join it any more."""


class RendezvousTimeoutError(RendezvousError):
    """Fewer than the minimum of nodes came within the time allowed."""


class RendezvousConnectionError(RendezvousError):
    """The store cannot be reached, or was lost."""


class RendezvousStateError(RendezvousError):
    """A record in the store is invalid, or the run refuses this node."""


class RendezvousGracefulExitError(RendezvousError):
    """The run has succeeded without this node, which is no failure: the agent exits with 0."""
