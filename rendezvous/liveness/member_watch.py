"""What a member of a running round does for its liveness: beat, and tell of those who are lost.

A member whose workers have succeeded may fall silent, as the round can do without it. It has left a
mark that says so. Should all have left theirs, then the last of them died before it could say that
the round is done, and whoever misses it says so instead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from ..api.handler import Placement, Verdict, VerdictKind
from ..protocol.keys import RoundKeys
from ..protocol.naming import name_members
from ..protocol.records import Roster
from ..protocol.timing import Timing
from ..protocol.wire import read_roster
from ..stores.store import Store
from .heartbeat import Heart


class Membership:
    """One member's part in noticing who is lost.

    Args:
        heart: The node's heart.
        store: Where the roster lies.
        keys: The round's keys.
        place: This node's place in the round.
        timing: How long to bear silence.
        conclude: Proposes a verdict.
    """

    def __init__(
        self,
        heart: Heart,
        store: Store,
        keys: RoundKeys,
        place: Placement,
        timing: Timing,
        conclude: Callable[[Verdict], object],
    ) -> None:
        self._heart = heart
        self._store = store
        self._keys = keys
        self._place = place
        self._timing = timing
        self._conclude = conclude

    def begin(self) -> None:
        """Beat, also where only spares may hear it, and listen to whom this rank has to listen."""
        rank = self._place.group_rank
        self._heart.beat_at(self._keys.beat(rank))
        if rank <= 1:
            self._listen_to_all()
        else:
            self._heart.listen_to(
                [self._keys.beat(rank - 1)], lambda _: self._listen_to_all(afresh=True)
            )

    def _listen_to_all(self, *, afresh: bool = False) -> None:
        ranks = {self._keys.beat(rank): rank for rank in range(self._place.group_world_size)}
        del ranks[self._keys.beat(self._place.group_rank)]
        self._heart.listen_to(
            ranks, lambda silent: self._miss(sorted(ranks[key] for key in silent)), afresh=afresh
        )

    def _miss(self, silent: list[int]) -> None:
        everybody = range(self._place.group_world_size)
        marks = self._store.get([self._keys.success(rank) for rank in everybody])
        lost = [rank for rank in silent if marks[rank] is None]
        if lost:
            self._tell(lost)
        elif None not in marks:
            self._conclude(Verdict(VerdictKind.DONE, self._place.group_rank))

    def _tell(self, lost: list[int]) -> None:
        (data,) = self._store.get([self._keys.roster])
        roster = None if data is None else read_roster(self._keys.roster, data)
        reason = sentence(lost, roster, self._timing.patience_s)
        verdict = Verdict(VerdictKind.NODE_LOST, self._place.group_rank, reason, lost=tuple(lost))
        self._conclude(verdict)


def sentence(lost: Collection[int], roster: Roster | None, patience_s: float) -> str:
    """Return what to tell people of nodes that fell silent.

    Args:
        lost: Their group ranks.
        roster: Who they are.
        patience_s: For how long nothing was heard of them.
    """
    have = "has" if len(lost) == 1 else "have"
    return f"{name_members(lost, roster)} {have} not been heard of for {patience_s:g} s"
