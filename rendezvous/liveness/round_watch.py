"""The watch over a running round: from inside by its members, and from outside by spares.

*Members* beat, watch, and report who is lost. A member whose workers have succeeded may fall
silent, since the round can do without it; its success mark in the store says so. If every member
has left its mark, the last one died before it could write the verdict DONE: then the member that
notices the silence writes DONE.

*Spares* wait for the verdict, which the members write. If all of these are lost at once (a rack
without power, or a job that was killed as a whole and started again), only the waiting nodes are
left to write one. So each of them watches group rank 0, and all members once rank 0 is silent. When
all members are silent, the waiting node writes the verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

from ..api.handler import Placement, Verdict, VerdictKind
from ..protocol.keys import GONE_BEAT, RoundKeys
from ..protocol.phrases import name_members
from ..protocol.records import Roster
from ..protocol.timing import Timing, seconds_in_words
from ..protocol.wire import read_roster, write_verdict
from ..stores.steps import Asking, Steps
from ..stores.store import Will
from .heartbeat import Heartbeat
from .peers import PeerMonitor


def watch_members(
    heartbeat: Heartbeat,
    store: Asking,
    keys: RoundKeys,
    place: Placement,
    timing: Timing,
    conclude: Callable[[Verdict], Steps[object]],
) -> None:
    """Beat at this node's rank, and watch the ranks that this rank is responsible for.

    The only member of a round beats, too: a spare may watch it.

    Args:
        conclude: Proposes the verdict once members are lost.
    """
    mine = place.group_rank

    # Not held by each member: those of a large round never need it.
    def beats_of_others() -> dict[str, int]:
        return {keys.beat(rank): rank for rank in range(place.group_world_size) if rank != mine}

    def report(silent: frozenset[str]) -> Steps[None]:
        ranks = beats_of_others()
        marks = yield store.get([keys.success(rank) for rank in range(place.group_world_size)])
        lost = [rank for rank in sorted(ranks[key] for key in silent) if marks[rank] is None]
        if lost:
            (data,) = yield store.get([keys.roster])
            roster = None if data is None else read_roster(keys.roster, data)
            reason = silence_reason(lost, roster, timing.patience_s)
            yield from conclude(Verdict(VerdictKind.NODE_LOST, mine, reason, lost=tuple(lost)))
        elif None not in marks:
            yield from conclude(Verdict(VerdictKind.DONE, mine))

    def watch_all(_silent: frozenset[str]) -> Steps[None]:
        heartbeat.watch(beats_of_others(), report, afresh=True)
        yield from ()

    heartbeat.beat_at(keys.beat(mine))
    if mine <= 1:
        heartbeat.watch(beats_of_others(), report)
    else:
        heartbeat.watch([keys.beat(mine - 1)], watch_all)


def will_of_member(keys: RoundKeys, rank: int, name: str) -> Will:
    """Return what the store writes when the connection of a member's agent ends without a goodbye.

    The round ends at once, unless the member's workers had succeeded or it had left. The member's
    outcome is empty, and it counts as having left, so that nobody waits for either.
    """
    reason = f"{name} is gone: its agent's connection has ended"
    verdict = Verdict(VerdictKind.NODE_LOST, rank, reason, lost=(rank,))
    return Will(
        {keys.beat(rank): GONE_BEAT},
        {keys.verdict: write_verdict(verdict), keys.outcome(rank): b"", keys.gone(rank): b"1"},
        (keys.success(rank), keys.gone(rank)),
    )


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


def silence_reason(lost: Collection[int], roster: Roster | None, patience_s: float) -> str:
    """Return a verdict's reason, for people: these nodes have been silent for too long."""
    have = "has" if len(lost) == 1 else "have"
    patience = seconds_in_words(patience_s)
    return f"{name_members(lost, roster)} {have} not been heard of for {patience} s"
