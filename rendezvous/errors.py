"""The errors of elrun: one root for all, one for what the user gave, and those between nodes."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_OWN_PACKAGES = (__name__.partition(".")[0], "click", "psutil", "rich")


class ElrunError(Exception):
    """Base of all errors that elrun raises for its users."""

    def __str__(self) -> str:
        """Return the sentence, which any console can take.

        It may hold a path or a worker's word that is no UTF-8, and printing that would raise.
        """
        return super().__str__().encode("utf-8", "backslashreplace").decode()


class UsageError(ElrunError, ValueError):
    """What the user gave can't be used, and nothing was started; the text is one sentence."""


class UsageRuntimeError(UsageError, RuntimeError):
    """A UsageError where torch raises a RuntimeError, for programs that catch that one."""


class UnfitNodeError(ElrunError):
    """The user's check of this node has failed: it does not take part.

    Args:
        sentence: How the check failed.
        output: The end of what the check printed.
    """

    def __init__(self, sentence: str, output: str = "") -> None:
        super().__init__(sentence)
        self.output = output


class InstallationChangedError(ElrunError):
    """A module of elrun's, or of a package that elrun uses, could not be imported while a job ran.

    Args:
        error: What the import raised.
        exitcode: Of the worker that had failed by then, -n for signal n; None: none had.
    """

    def __init__(self, error: Exception, exitcode: int | None = None) -> None:
        end = "" if exitcode is None else f"; a worker {_end_of(exitcode)}"
        super().__init__(
            f"files of elrun were changed or removed while it ran, so that it can't say more "
            f"({error}){end}"
        )
        self.exitcode = exitcode

    @staticmethod
    def is_behind(error: BaseException) -> bool:
        """Return whether an error says that a module of elrun's could not be imported."""
        if isinstance(error, SyntaxError):  # a file that was half written
            return os.path.dirname(os.path.dirname(__file__)) in str(error.filename)
        name = (isinstance(error, ImportError) and error.name) or ""
        return name.partition(".")[0] in _OWN_PACKAGES


def _end_of(exitcode: int) -> str:
    if exitcode < 0:
        return f"was killed by signal {-exitcode}"
    return f"exited with code {exitcode}"


# A traceback ends with the name by which users import the error.
ElrunError.__module__ = UsageError.__module__ = "elrun"


class RendezvousError(ElrunError):
    """Base of all errors between nodes."""


class RendezvousClosedError(RendezvousError):
    """The run has ended, by success or by abort: no node can join it any more.

    Args:
        message: What happened.
        reason: Why the run was ended while this node waited in it.
        details: Of the verdict that has ended it: JSON values from agent to agent.
    """

    def __init__(
        self, message: str = "", reason: str = "", details: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.details = {} if details is None else details


class RendezvousTimeoutError(RendezvousError):
    """Fewer than the minimum of nodes came within the time allowed."""


class RendezvousConnectionError(RendezvousError):
    """The store cannot be reached, or was lost."""


class PortTakenError(RendezvousConnectionError):
    """A port at which this node was told to listen is held by another program on its host."""


class RendezvousEntryError(RendezvousConnectionError):
    """The store was lost before it had told the node which round forms; there are others."""


class RendezvousRefusalError(RendezvousConnectionError):
    """The store is there, and can't do what it was asked for: it is full, or has forgotten."""


class RendezvousRoundOverError(RendezvousRefusalError):
    """The keys of a round were freed: the run has gone on for many rounds without this node."""


class RendezvousStateError(RendezvousError):
    """A record in the store is invalid, or the run refuses this node."""


class RendezvousGracefulExitError(RendezvousError):
    """The run has succeeded without this node, which is no failure: the agent exits with 0."""
