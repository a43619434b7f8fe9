"""The errors of elrun: one root for all, one for what the user gave, and those between nodes."""

from __future__ import annotations


class ElrunError(Exception):
    """Base of all errors that elrun raises for its users."""

    def __str__(self) -> str:
        """Return the sentence, which any console can take.

        It may hold a path or a worker's word that is no UTF-8, and printing that would raise.
        """
        return super().__str__().encode("utf-8", "backslashreplace").decode()


class UsageError(ElrunError, ValueError):
    """What the user gave can't be used, and nothing was started; the text is one sentence."""


# A traceback ends with the name by which users import the error.
ElrunError.__module__ = UsageError.__module__ = "elrun"


class RendezvousError(ElrunError):
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
