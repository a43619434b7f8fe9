"""The wait of a node outside a running round, for the verdict of that round.

The members of a round write its verdict. If all of them are lost at once (a rack without power, or
a job that was killed as a whole and started again), only the waiting nodes are left to write one.
So each waiting node watches group rank 0, and all members once rank 0 is silent. When all members
are silent, the waiting node writes the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..api.handler import Verdict, VerdictKind
from ..protocol.keys import RoundKeys
from ..protocol.records import Roster
from ..protocol.timing import Timing
from ..protocol.wire import write_verdict
from ..stores.steps import Asking, Steps
from .heartbeat import Heartbeat
from .member_watch import silence_reason
from .peers import PeerMonitor


class SpareWatch:
    """Waits beside running rounds, one after the other."""

    def __init__(self, heartbeat: Heartbeat, timing: Timing, clock: Callable[[], float]) -> None:
        self._heartbeat = heartbeat
        self._timing = timing
        self._clock = clock
        self.watched_until = -math.inf
        """When this node last waited beside a round; a node that does so lacks no other nodes."""

    def await_verdict(self, store: Asking, keys: RoundKeys, roster: Roster) -> Steps[bytes]:
        """Return the verdict of a running round; write it when all members are silent."""
        members = PeerMonitor(
            self._heartbeat, (keys.beat(rank) for rank in range(len(roster.members)))
        )
        try:
            found: list[bytes] | None = None
            while found is None:
                found = yield store.wait([keys.verdict], self._timing.patience_s)
                if found is None and members.are_all_silent():
                    verdict = yield from _verdict_without_members(store, keys, roster, self._timing)
                    found = [(yield store.create(keys.verdict, write_verdict(verdict)))]
            return found[0]
        finally:
            self.watched_until = self._clock()

    def await_own_verdict(
        self, store: Asking, keys: RoundKeys, roster: Roster, rank: int
    ) -> Steps[bytes]:
        """Return the same for a member whose workers have succeeded; it beats at its rank."""
        self._heartbeat.beat_at(keys.beat(rank))
        return (yield from self.await_verdict(store, keys, roster))


def _verdict_without_members(
    store: Asking, keys: RoundKeys, roster: Roster, timing: Timing
) -> Steps[Verdict]:
    """Return how a round ended whose members are all lost."""
    ranks = range(len(roster.members))
    if None not in (yield store.get([keys.success(rank) for rank in ranks])):
        return Verdict(VerdictKind.DONE)
    lost = tuple(ranks)
    reason = silence_reason(lost, roster, timing.patience_s)
    return Verdict(VerdictKind.NODE_LOST, reason=reason, lost=lost)
