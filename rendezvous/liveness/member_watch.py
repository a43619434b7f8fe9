"""What a member of a running round does so that lost nodes are found: beat, watch, and report.

A member whose workers have succeeded may fall silent, since the round can do without it; its
success mark in the store says so. If every member has left its mark, the last one died before it
could write the verdict DONE: then the member that notices the silence writes DONE.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from ..api.handler import Placement, Verdict, VerdictKind
from ..protocol.keys import GONE_BEAT, RoundKeys
from ..protocol.naming import name_members
from ..protocol.records import Roster
from ..protocol.timing import Timing
from ..protocol.wire import read_roster, write_verdict
from ..stores.steps import Asking, Steps
from ..stores.store import Will
from .heartbeat import Heartbeat


class MemberWatch:
    """Watches the other members of one round."""

    def __init__(
        self,
        heartbeat: Heartbeat,
        store: Asking,
        keys: RoundKeys,
        place: Placement,
        timing: Timing,
        conclude: Callable[[Verdict], Steps[object]],
    ) -> None:
        self._heartbeat = heartbeat
        self._store = store
        self._keys = keys
        self._place = place
        self._timing = timing
        self._conclude = conclude

    def start(self) -> None:
        """Beat at this node's rank, and watch the ranks that this rank is responsible for.

        The only member of a round beats, too: a spare may watch it.
        """
        rank = self._place.group_rank
        self._heartbeat.beat_at(self._keys.beat(rank))
        if rank <= 1:
            self._watch_all()
        else:
            self._heartbeat.watch([self._keys.beat(rank - 1)], self._watch_all_afresh)

    def _watch_all_afresh(self, _: frozenset[str]) -> Steps[None]:
        self._watch_all(afresh=True)
        yield from ()

    def _watch_all(self, *, afresh: bool = False) -> None:
        ranks = {self._keys.beat(rank): rank for rank in range(self._place.group_world_size)}
        del ranks[self._keys.beat(self._place.group_rank)]
        self._heartbeat.watch(
            ranks,
            lambda silent: self._on_silence(sorted(ranks[key] for key in silent)),
            afresh=afresh,
        )

    def _on_silence(self, silent: list[int]) -> Steps[None]:
        everybody = range(self._place.group_world_size)
        marks = yield self._store.get([self._keys.success(rank) for rank in everybody])
        lost = [rank for rank in silent if marks[rank] is None]
        if lost:
            yield from self._report_lost(lost)
        elif None not in marks:
            yield from self._conclude(Verdict(VerdictKind.DONE, self._place.group_rank))

    def _report_lost(self, lost: list[int]) -> Steps[None]:
        (data,) = yield self._store.get([self._keys.roster])
        roster = None if data is None else read_roster(self._keys.roster, data)
        reason = silence_reason(lost, roster, self._timing.patience_s)
        verdict = Verdict(VerdictKind.NODE_LOST, self._place.group_rank, reason, lost=tuple(lost))
        yield from self._conclude(verdict)


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


def silence_reason(lost: Collection[int], roster: Roster | None, patience_s: float) -> str:
    """Return a verdict's reason, for people: these nodes have been silent for too long."""
    have = "has" if len(lost) == 1 else "have"
    return f"{name_members(lost, roster)} {have} not been heard of for {patience_s:g} s"
