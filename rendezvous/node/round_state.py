"""What a node knows of its current round: where it stands, and how the round ended."""

from __future__ import annotations

import enum
from collections.abc import Callable

from ..api.handler import Placement, Verdict, VerdictKind
from ..errors import RendezvousConnectionError
from ..liveness.heartbeat import Heartbeat


class Phase(enum.Enum):
    """What a node does at a time."""

    IDLE = "is in no round, or its round has ended; the agent has not asked for the next one"
    ENTERING = "the agent has asked for a round, and the node has no seat yet"
    SEATED = "waits on its seat until the round is sealed, and seals it if it has to"
    SPARE = "waits on a seat of the next round while a round runs without this node"
    MEMBER = "takes part in a running round"
    ADRIFT = "has lost its store; the run may go on at another endpoint"
    LEFT = "has left the run"


class RoundState:
    """The current round of one node, and the node's phase.

    Args:
        heartbeat: The node's heartbeat; it stops with the run, or when the store is lost.
        can_move: Returns whether the run can go on in another store.
        wake: Called whenever the verdict may have changed.
    """

    def __init__(
        self, heartbeat: Heartbeat, can_move: Callable[[], bool], wake: Callable[[], None]
    ) -> None:
        self._heartbeat = heartbeat
        self._can_move = can_move
        self._wake = wake
        self._store_error: RendezvousConnectionError | None = None
        self._is_closed = False
        self.phase = Phase.IDLE
        """What the node does now."""
        self.place: Placement | None = None
        """Where this node stands in its latest round; None before the first."""
        self.verdict: Verdict | None = None
        """How the latest round ended, as far as this node knows."""
        self.spare_is_told_of = False
        """Whether this node has named a spare to its people: once a job is enough."""
        self.must_reconnect = False
        """Whether the store is lost, so that the next round needs another connection."""

    @property
    def has_ended(self) -> bool:
        """Whether this node knows that the run has ended."""
        verdict = self.verdict
        return self._is_closed or (verdict is not None and verdict.kind.ends_run)

    @property
    def has_left(self) -> bool:
        return self.phase is Phase.LEFT

    def turn_to(self, phase: Phase) -> None:
        """Change the phase, unless the node has left."""
        if self.phase is not Phase.LEFT:
            self.phase = phase

    def begin(self, place: Placement) -> None:
        self.place, self.verdict, self._store_error = place, None, None
        self.turn_to(Phase.MEMBER)

    def verdict_or_error(self) -> Verdict | None:
        """Return the current round's verdict if there is one; any thread may ask.

        Raises:
            RendezvousConnectionError: The store was lost before a verdict came.
        """
        verdict, error = self.verdict, self._store_error
        if verdict is None and error is not None:
            raise RendezvousConnectionError(str(error)) from error
        return verdict

    def settle(self, place: Placement, verdict: Verdict) -> None:
        """Take the verdict of a round, if that is the current one and has no verdict yet."""
        if self.place is place and self.verdict is None:
            self.verdict = verdict
            if verdict.kind.ends_run:
                self._heartbeat.stop()
            else:
                self._heartbeat.watch(())
            if self.phase is Phase.MEMBER:
                self.turn_to(Phase.IDLE)
        self._wake()

    def lose_store(self, place: Placement, error: RendezvousConnectionError) -> Verdict | None:
        """Record that the store of a round is lost.

        Returns:
            The verdict of the current round. If the run can go on in another store and the round
            had no verdict yet, this is NODE_LOST, for this node only. None: the node fails.
        """
        is_running = self.place is place and self.verdict is None
        if is_running and not self.has_left:
            self._heartbeat.stop()
            self.turn_to(Phase.ADRIFT)
            if self._can_move():
                self.must_reconnect = True
                reason = f"{error}; the nodes meet at the next endpoint"
                self.verdict = Verdict(VerdictKind.NODE_LOST, reason=reason)
            else:
                self._store_error = error
        self._wake()
        return self.verdict

    def break_down(self, reason: str) -> None:
        """Record that no verdict will come any more."""
        self._store_error = RendezvousConnectionError(reason)

    def close(self) -> bool:
        """Record that the run has ended for this node; return whether it had ended before."""
        had_ended = self.has_ended
        self._is_closed = True
        return had_ended
