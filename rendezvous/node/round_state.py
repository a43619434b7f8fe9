"""What a node knows of its current round: where it stands, and how the round ended."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..api.handler import Placement, Verdict, VerdictKind
from ..errors import RendezvousConnectionError
from ..liveness.heartbeat import Heartbeat


class RoundState:
    """The current round of one node. Any thread may call every method.

    The agent's thread reads the state, the thread of ``next_rendezvous`` begins rounds, and a
    thread of the store or of the heartbeat reports the verdict.

    Args:
        heartbeat: The node's heartbeat; it stops with the run, or when the store is lost.
        can_move: Returns whether the run can go on in another store.
    """

    def __init__(self, heartbeat: Heartbeat, can_move: Callable[[], bool]) -> None:
        self._heartbeat = heartbeat
        self._can_move = can_move
        # The lock guards what follows.
        self._lock = threading.Lock()
        self._place: Placement | None = None
        self._verdict: Verdict | None = None
        self._store_error: RendezvousConnectionError | None = None
        self._must_reconnect = False
        self._is_closed = False
        self._has_left = False
        self._subscribers: tuple[Callable[[], None], ...] = ()

    @property
    def place(self) -> Placement | None:
        """Where this node stands in its latest round; None before the first."""
        with self._lock:
            return self._place

    @property
    def verdict(self) -> Verdict | None:
        """How the latest round ended, as far as this node knows."""
        with self._lock:
            return self._verdict

    @property
    def must_reconnect(self) -> bool:
        """Whether the store is lost, so that the next round needs another connection."""
        with self._lock:
            return self._must_reconnect

    @property
    def has_ended(self) -> bool:
        """Whether this node knows that the run has ended."""
        with self._lock:
            return self._is_closed or (self._verdict is not None and self._verdict.kind.ends_run)

    @property
    def has_left(self) -> bool:
        """Whether this node has left the run."""
        with self._lock:
            return self._has_left

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever the verdict may have changed, in the thread that changes it."""
        with self._lock:
            self._subscribers = (*self._subscribers, wake)

    def begin(self, place: Placement) -> None:
        """Enter a round."""
        with self._lock:
            self._place, self._verdict, self._store_error = place, None, None

    def verdict_or_error(self) -> Verdict | None:
        """Return the current round's verdict if there is one.

        Raises:
            RendezvousConnectionError: The store was lost before a verdict came.
        """
        with self._lock:
            if self._verdict is None and self._store_error is not None:
                raise RendezvousConnectionError(str(self._store_error)) from self._store_error
            return self._verdict

    def settle(self, place: Placement, verdict: Verdict) -> None:
        """Take the verdict of a round, if that is the current one and has no verdict yet."""
        with self._lock:
            if self._place is place and self._verdict is None:
                self._verdict = verdict
                if verdict.kind.ends_run:
                    self._heartbeat.stop()
                else:
                    self._heartbeat.watch(())
        self._notify()

    def replace_verdict(self, verdict: Verdict) -> None:
        """Take the verdict that stands in the store to which the run has moved."""
        with self._lock:
            self._verdict = verdict

    def lose_store(self, place: Placement, error: RendezvousConnectionError) -> Verdict | None:
        """Record that the store of a round is lost.

        Returns:
            The verdict of the current round. If the run can go on in another store and the round
            had no verdict yet, this is NODE_LOST, for this node only. None: the node fails.
        """
        with self._lock:
            is_running = self._place is place and self._verdict is None
            if is_running and not self._has_left:
                self._heartbeat.stop()
                if self._can_move():
                    self._must_reconnect = True
                    reason = f"{error}; the nodes meet at the next endpoint"
                    self._verdict = Verdict(VerdictKind.NODE_LOST, reason=reason)
                else:
                    self._store_error = error
            verdict = self._verdict
        self._notify()
        return verdict

    def set_must_reconnect(self, value: bool) -> None:
        """Record whether the next round needs another connection to a store."""
        with self._lock:
            self._must_reconnect = value

    def close(self) -> bool:
        """Record that the run has ended for this node; return whether it had ended before."""
        with self._lock:
            had_ended = self._is_closed or (
                self._verdict is not None and self._verdict.kind.ends_run
            )
            self._is_closed = True
            return had_ended

    def leave(self) -> None:
        """Record that this node leaves the run; call no subscriber any more."""
        with self._lock:
            self._has_left = True
            self._subscribers = ()

    def _notify(self) -> None:
        with self._lock:
            subscribers = self._subscribers
        for wake in subscribers:
            wake()
