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


class _Excused(NamedTuple):
    """What has excused a node's silence since its beat changed.

    Args:
        times: How often a slow store has.
        unsure_s: How long the beat could not be read.
    """

    times: int = 0
    unsure_s: float = 0.0


class FailureDetector:
    """Remembers the last beat of each node, and for how long it has not changed.

    Args:
        longest_pause_s: The most seconds between two reads that count as silence. A read that takes
            longer shows that the store is in trouble.
    """

    def __init__(self, patience_s: float, longest_pause_s: float) -> None:
        self._patience_s = patience_s
        self._longest_pause_s = longest_pause_s
        # Seconds observed so far; a pause of the observer counts as longest_pause_s at most.
        self._observed_s = 0.0
        self._last_read_at: float | None = None
        # By name: the last beat (None: no beat was at the key); when it was first read, or its
        # silence was excused, in observed seconds; and the excuses, where there are any.
        self._beats: dict[str, bytes | None] = {}
        self._since: dict[str, float] = {}
        self._excused: dict[str, _Excused] = {}

    def keep_only(self, names: Collection[str]) -> None:
        for known in (self._beats, self._since, self._excused):
            for name in known.keys() - names:
                del known[name]

    def observe(
        self, beats: Mapping[str, bytes | None], asked_at: float, answered_at: float
    ) -> None:
        """Record the result of one read of the beats.

        Args:
            beats: The beats by name; None where no beat is at the key.
        """
        seconds = 0.0
        if self._last_read_at is not None:
            seconds = min(max(0.0, asked_at - self._last_read_at), self._longest_pause_s)
            self._observed_s += seconds
        self._last_read_at = answered_at
        was_in_trouble = answered_at - asked_at > self._longest_pause_s
        known, since, observed_s = self._beats, self._since, self._observed_s
        for name, beat in beats.items():
            if name not in known or (beat != known[name] and beat != UNSURE_BEAT):
                known[name], since[name] = beat, observed_s
                if self._excused:
                    self._excused.pop(name, None)
            elif beat == UNSURE_BEAT:
                self._excuse_unsure(name, seconds)
            elif was_in_trouble and beat != GONE_BEAT:
                self._excuse_slow_store(name)

    def check(self) -> tuple[frozenset[str], float]:
        """Return the nodes whose silence has lasted for the whole patience.

        Returns:
            These nodes, and the seconds until another one can have been silent for as long.
        """
        silent, next_s = [], self._patience_s
        for name, since in self._since.items():
            left_s = since + self._patience_s - self._observed_s
            if left_s <= 0 or self._beats[name] == GONE_BEAT:
                silent.append(name)
            elif left_s < next_s:
                next_s = left_s
        return frozenset(silent), next_s

    def _excuse_unsure(self, name: str, seconds: float) -> None:
        times, unsure_s = self._excused.get(name, _Excused())
        if unsure_s < _MOST_UNSURE_PATIENCES * self._patience_s:
            self._since[name] += seconds
            self._excused[name] = _Excused(times, unsure_s + seconds)

    def _excuse_slow_store(self, name: str) -> None:
        times, unsure_s = self._excused.get(name, _Excused())
        if times < _MOST_EXCUSES:
            self._since[name] = self._observed_s
            self._excused[name] = _Excused(times + 1, unsure_s)
