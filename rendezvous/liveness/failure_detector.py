"""Who has been silent for too long, judged from the beats that one node has read: a pure decision.

A beat says nothing by its value. A node is alive if its beat *changed* between two looks of the
judge, by the judge's own clock. Its silence is the time for which the judge has looked, and seen
the same. Time for which the judge itself did not look doesn't count: it was paused, or could not
reach the store, and in the latter case the others could not either. They may reach it a little
later than the judge does. So after a look that took long, all have their full patience again; but
not for ever, or no node would be missed while a store is slow. Nor does time count for which a
stranger has written over a node's beat, thirty times the patience at most.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from ..protocol.keys import UNSURE_BEAT

_MOST_EXCUSES = 3
_MOST_UNSURE_PATIENCES = 30


@dataclass(frozen=True, slots=True)
class _Heard:
    """What was heard of a node.

    Args:
        beat: Its beat; None if none was there.
        since: When that was first seen, or excused last, by the judge's own clock.
        excuses: How often its silence was put down to the store since the beat changed.
        unsure_s: For how long the beat could not be read since it changed.
    """

    beat: bytes | None
    since: float
    excuses: int = 0
    unsure_s: float = 0.0


class Judge:
    """Remembers what was heard of each node, and for how long nothing new.

    Args:
        patience_s: How long a node may be silent.
        longest_pause_s: Seconds between two looks that count as silence; what is more, doesn't. A
            look that takes longer has found the store in trouble.
    """

    def __init__(self, patience_s: float, longest_pause_s: float) -> None:
        self._patience_s = patience_s
        self._longest_pause_s = longest_pause_s
        # A clock that goes only while the judge looks.
        self._attended_s = 0.0
        self._looked_at: float | None = None
        self._heard: dict[str, _Heard] = {}

    def forget_all_but(self, names: Collection[str]) -> None:
        """Drop what was heard of other nodes."""
        self._heard = {name: heard for name, heard in self._heard.items() if name in names}

    def look(self, beats: Mapping[str, bytes | None], asked_at: float, answered_at: float) -> None:
        """Take in what one look at the beats has shown.

        Args:
            beats: The beats by name; None for one that isn't there.
            asked_at: When the store was asked.
            answered_at: When it had answered, by the same clock.
        """
        attended_s = 0.0
        if self._looked_at is not None:
            attended_s = min(max(0.0, asked_at - self._looked_at), self._longest_pause_s)
            self._attended_s += attended_s
        self._looked_at = answered_at
        was_in_trouble = answered_at - asked_at > self._longest_pause_s
        for name, beat in beats.items():
            heard = self._heard.get(name)
            if heard is not None and beat == UNSURE_BEAT:
                self._heard[name] = self._spared(heard, attended_s)
            elif heard is None or heard.beat != beat:
                self._heard[name] = _Heard(beat, self._attended_s)
            elif was_in_trouble and heard.excuses < _MOST_EXCUSES:
                self._heard[name] = _Heard(beat, self._attended_s, heard.excuses + 1)

    def _spared(self, heard: _Heard, seconds: float) -> _Heard:
        """Return what was heard of a node, less a time that can't be judged."""
        if heard.unsure_s >= _MOST_UNSURE_PATIENCES * self._patience_s:
            return heard
        return replace(heard, since=heard.since + seconds, unsure_s=heard.unsure_s + seconds)

    def silent(self) -> frozenset[str]:
        """Return the nodes that have been silent for as long as they may."""
        return frozenset(name for name in self._heard if self._left_s(name) <= 0)

    def due_in_s(self) -> float:
        """Return the seconds until a look could find another node silent for too long."""
        lefts = (self._left_s(name) for name in self._heard)
        return min((left_s for left_s in lefts if left_s > 0), default=self._patience_s)

    def _left_s(self, name: str) -> float:
        return self._heard[name].since + self._patience_s - self._attended_s
