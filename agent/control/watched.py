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


class Watched:
    """One agent, as the control socket sees it.

    Args:
        group: Its workers.
        rounds: Its rendezvous.
        progress: Returns the number of its round, if it has one, and of its restarts.
        last_decision: Returns what followed the last round that ended, and when; "" if none did.
        inbox: Takes requests to stop the job, besides signals.
        record: Keeps where workers are; returns whether it has.
        shutdown_timeout_s: How long workers have to end when they are stopped.
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
    ) -> None:
        self.group = group
        self.rounds = rounds
        self.progress = progress
        self.last_decision = last_decision
        self.inbox = inbox
        self.record = record
        self.shutdown_timeout_s = shutdown_timeout_s
        self.workers: PContext | None = None
        """The processes of the current attempt."""
