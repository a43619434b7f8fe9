"""Decides which nodes have been silent for too long, from heartbeats that one observer has read.

The value of a beat means nothing; a change of the value is a sign of life. A node's silence is the
time for which the observer has read its beat without a change, by the observer's own clock. Three
kinds of time do not count as silence:

- The observer did not read: its process was paused, or it could not reach the store.
- The store was slow. After a read that took longer than ``longest_pause_s`` every node gets its
  full patience again, since the other nodes may reach the store a little later than the observer.
  This happens three times in a row at most, or else a slow store would hide each lost node.
- The beat could not be read, because a process without the job's secret has overwritten it
  (``UNSURE_BEAT``). This is limited to thirty times the patience.

A store that has seen the connection of a node end overwrites the node's beat (``GONE_BEAT``). That
node counts as silent at once. If it lives after all, it beats on, and counts as alive again.

This module uses no clock and no store.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..named_tuple import NamedTuple
from ..protocol.keys import GONE_BEAT, UNSURE_BEAT

_MOST_EXCUSES = 3
_MOST_UNSURE_PATIENCES = 30


class _Observation(NamedTuple):
    """What the observer knows of one node.

    Args:
        beat: The last beat; None: no beat was at the key.
        since: When the observer first read this beat, or excused the silence, in observed seconds.
        excuses: How often a slow store has excused the silence since the beat changed.
        unsure_s: How long the beat could not be read since it changed.
    """

    beat: bytes | None
    since: float
    excuses: int = 0
    unsure_s: float = 0.0


class FailureDetector:
    """Remembers the last beat of each node, and for how long it has not changed.

    Args:
        patience_s: How long a node may be silent.
        longest_pause_s: The most seconds between two reads that count as silence. A read that takes
            longer shows that the store is in trouble.
    """

    def __init__(self, patience_s: float, longest_pause_s: float) -> None:
        self._patience_s = patience_s
        self._longest_pause_s = longest_pause_s
        # Seconds observed so far; a pause of the observer counts as longest_pause_s at most.
        self._observed_s = 0.0
        self._last_read_at: float | None = None
        self._observations: dict[str, _Observation] = {}

    def keep_only(self, names: Collection[str]) -> None:
        """Forget all nodes but these."""
        self._observations = {
            name: known for name, known in self._observations.items() if name in names
        }

    def observe(
        self, beats: Mapping[str, bytes | None], asked_at: float, answered_at: float
    ) -> None:
        """Record the result of one read of the beats.

        Args:
            beats: The beats by name; None where no beat is at the key.
            asked_at: When the read began.
            answered_at: When the read ended, by the same clock.
        """
        seconds = 0.0
        if self._last_read_at is not None:
            seconds = min(max(0.0, asked_at - self._last_read_at), self._longest_pause_s)
            self._observed_s += seconds
        self._last_read_at = answered_at
        was_in_trouble = answered_at - asked_at > self._longest_pause_s
        for name, beat in beats.items():
            known = self._observations.get(name)
            if known is not None and beat == UNSURE_BEAT:
                self._observations[name] = self._excuse_unsure(known, seconds)
            elif known is None or known.beat != beat:
                self._observations[name] = _Observation(beat, self._observed_s)
            elif was_in_trouble and beat != GONE_BEAT and known.excuses < _MOST_EXCUSES:
                self._observations[name] = _Observation(beat, self._observed_s, known.excuses + 1)

    def silent(self) -> frozenset[str]:
        """Return the nodes whose silence has lasted for the whole patience."""
        return frozenset(name for name in self._observations if self._left_s(name) <= 0)

    def next_check_s(self) -> float:
        """Return the seconds until another node can have been silent for the whole patience."""
        lefts = (self._left_s(name) for name in self._observations)
        return min((left_s for left_s in lefts if left_s > 0), default=self._patience_s)

    def _excuse_unsure(self, known: _Observation, seconds: float) -> _Observation:
        """Return the observation of a node, with some seconds less of silence."""
        if known.unsure_s >= _MOST_UNSURE_PATIENCES * self._patience_s:
            return known
        return known._replace(since=known.since + seconds, unsure_s=known.unsure_s + seconds)

    def _left_s(self, name: str) -> float:
        known = self._observations[name]
        if known.beat == GONE_BEAT:
            return 0.0
        return known.since + self._patience_s - self._observed_s
