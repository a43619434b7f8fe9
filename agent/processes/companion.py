"""What stands beside an agent's loop: optional parts, all met in the same way.

The agent calls a companion before and after the start of an attempt's workers, at each turn of its
loop, and at the end, always in its main thread. To add a companion, write a class in a room of its
own, and name it in the list of ``agent/elastic/companions.py``.
"""

from __future__ import annotations

import contextlib
from types import MappingProxyType

from ...rendezvous.api.handler import RendezvousInfo
from ..failures.failure import ProcessFailure
from .context import PContext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from contextlib import AbstractContextManager


class Wakes:  # a NamedTuple would take a tenth of a millisecond of each start
    """What makes the next tick of a companion due.

    Args:
        fds: Descriptors; it is due when one of them becomes readable.
        within_s: Seconds after which it is due in any case; None: there is no such time.
    """

    __slots__ = ("fds", "within_s")

    def __init__(self, fds: Collection[int] = (), within_s: float | None = None) -> None:
        self.fds = fds
        self.within_s = within_s


class Trouble:
    """Why an attempt can't go on, though no worker has ended.

    Args:
        reason: The sentence for the other nodes and for people.
        failures: Workers that count as failed, by local rank, the first one first.
        is_node_unfit: Whether this node must not restart workers.
    """

    __slots__ = ("failures", "is_node_unfit", "reason")

    def __init__(
        self,
        reason: str,
        failures: Mapping[int, ProcessFailure] = MappingProxyType({}),
        *,
        is_node_unfit: bool = False,
    ) -> None:
        self.reason = reason
        self.failures = failures
        self.is_node_unfit = is_node_unfit


class Companion:
    """An optional part of an agent; each method may be left as it is here."""

    @property
    def is_needed_by_others(self) -> bool:
        """Whether other nodes lose something that they need when this agent ends."""
        return False

    def environment(self) -> Mapping[str, str]:
        """Return what all workers find in their environment because of it."""
        return {}

    def prepare(self, info: RendezvousInfo | None, *, is_last: bool) -> None:
        """Get ready for an attempt, whose workers are about to start.

        Args:
            info: The round; None where a subclass of the agent has met the other nodes itself.
            is_last: Whether no restart is left after this attempt.

        Raises:
            RendezvousError: The workers could not meet.
        """

    def begin_attempt(self, workers: PContext) -> None:
        """Take note of the workers, which have just been started."""

    def asking(self) -> AbstractContextManager[object]:
        """Return a context in which the workers are asked for their stacks, from any thread."""
        return contextlib.nullcontext()

    def wakes(self) -> Wakes:
        """Return what makes the next tick due."""
        return Wakes()

    def tick(self) -> Trouble | None:
        """Do what is due, quickly; the loop has woken, for whatever reason.

        Returns:
            Why the attempt can't go on, once.
        """
        return None

    def end_attempt(self) -> None:
        """Take note that the attempt is over: its workers were stopped, or there were none yet."""

    def end(self) -> None:
        """Give everything back; the agent's run is over, and nothing else is called."""
