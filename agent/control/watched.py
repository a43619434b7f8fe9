"""What the control socket may know of the agent, and ask of it; any thread may."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from ...rendezvous.api.handler import RoundHandler
    from ..failures.stack_places import Whereabouts
    from ..processes.context import PContext
    from ..system.signals import SignalInbox
    from ..workers.worker import WorkerGroup


TOPIC = "question"
"""The topic of the notices by which one node asks all."""


class Mailbox:
    """Takes what nodes of the round ask, from the start on; any thread may use it."""

    def __init__(self) -> None:
        self._heard: list[tuple[int, bytes]] = []
        self._next = (0, 0)
        self.wake: Callable[[], None] = lambda: None
        """Called when a notice has come."""

    def hear(self, _topic: str, number: int, notice: bytes) -> None:
        """Take a notice."""
        self._next = (self._next[0], number + 1)
        self._heard.append((number, notice))
        self.wake()

    def take(self) -> list[tuple[int, bytes]]:
        """Return, once, the notices that have come, with their numbers."""
        # One by one: a notice that comes meanwhile is taken now, or next time.
        return [self._heard.pop(0) for _ in range(len(self._heard))]

    def next_number(self, of_round: int) -> int:
        """Return the number of a round's next notice, or a lower one, which is taken."""
        if self._next[0] != of_round:
            self._next = (of_round, 0)
        return self._next[1]


class Watched:
    """One agent, as the control socket sees it.

    Args:
        progress: Returns the number of its round, if it has one, and of its restarts.
        last_decision: Returns what followed the last round that ended, and when; "" if none did.
        inbox: Takes requests to stop the job, besides signals.
        record: Keeps where workers are; returns whether it has.
        shutdown_timeout_s: How long workers have to end when they are stopped.
        mailbox: Takes what other nodes ask.
    """

    def __init__(
        self,
        group: WorkerGroup,
        rounds: RoundHandler,
        progress: Callable[[], tuple[int | None, int]],
        last_decision: Callable[[], tuple[str, float]],
        inbox: SignalInbox,
        record: Callable[[str, Mapping[int, Whereabouts]], Any],
        shutdown_timeout_s: float,
        mailbox: Mailbox,
    ) -> None:
        self.group = group
        self.rounds = rounds
        self.progress = progress
        self.last_decision = last_decision
        self.inbox = inbox
        self.record = record
        self.shutdown_timeout_s = shutdown_timeout_s
        self.mailbox = mailbox
        self.workers: PContext | None = None
        """The processes of the current attempt."""
