"""What a node that is outside a running round hears of it: as a rule, that somebody lives there.

A spare waits for the verdict of the running round, which the round's members write. If all of them
are gone at once (a rack without power, a job that was killed as a whole and started again), nobody
is left to do so but those who wait. So each of them listens to group rank 0, and, if that falls
silent, to all members. Once all are silent, it writes the verdict itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..api.handler import Verdict, VerdictKind
from ..protocol.keys import RoundKeys
from ..protocol.records import Roster
from ..protocol.timing import Timing
from ..protocol.wire import write_verdict
from ..stores.store import Store
from .heartbeat import Heart
from .lookout import Lookout
from .member_watch import sentence


class Bystander:
    """Stands beside running rounds, one after the other.

    Args:
        heart: The heart of the node that waits, which beats on its seat.
        timing: How long to bear silence.
        clock: A monotonic clock.
    """

    def __init__(self, heart: Heart, timing: Timing, clock: Callable[[], float]) -> None:
        self._heart = heart
        self._timing = timing
        self._clock = clock
        self._stood_until = -math.inf

    @property
    def stood_until(self) -> float:
        """When it last stood beside a round; a node that does so is not short of others."""
        return self._stood_until

    def await_verdict(self, store: Store, keys: RoundKeys, roster: Roster) -> bytes:
        """Return the verdict of a running round, at the latest when all of its members are silent.

        Args:
            store: The store.
            keys: The round's keys.
            roster: Its members, one at least.
        """
        members = Lookout(self._heart, (keys.beat(rank) for rank in range(len(roster.members))))
        try:
            while (told := store.wait([keys.verdict], self._timing.patience_s)) is None:
                if members.are_gone():
                    verdict = _verdict_without_members(store, keys, roster, self._timing)
                    return store.create(keys.verdict, write_verdict(verdict))
            return told[0]
        finally:
            self._stood_until = self._clock()

    def await_own_verdict(self, store: Store, keys: RoundKeys, roster: Roster, rank: int) -> bytes:
        """Return the same as a member whose workers have succeeded, and that beats on its rank.

        Args:
            store: The store.
            keys: The round's keys.
            roster: Its members.
            rank: The group rank of this one.
        """
        self._heart.beat_at(keys.beat(rank))
        return self.await_verdict(store, keys, roster)


def _verdict_without_members(
    store: Store, keys: RoundKeys, roster: Roster, timing: Timing
) -> Verdict:
    """Return how a round ended whose members are all gone."""
    ranks = range(len(roster.members))
    if None not in store.get([keys.success(rank) for rank in ranks]):
        return Verdict(VerdictKind.DONE)
    lost = tuple(ranks)
    reason = sentence(lost, roster, timing.patience_s)
    return Verdict(VerdictKind.NODE_LOST, reason=reason, lost=lost)
