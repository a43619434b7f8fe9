"""Which keys of a store belong to which round, and which rounds nobody can need any more.

A node reads and writes the keys of the round that forms, of the round that it is in, and of the
round before. A node that has stood still, or was cut off, may be some rounds behind: it finds the
verdict of its round, and joins the round that forms. So some rounds are kept, and all before them
are freed: a job that restarts for weeks costs its host as much as one that never does.
"""

from __future__ import annotations

from ...protocol.keys import round_of

ROUNDS_KEPT = 8
"""Of each run, the newest ones."""


class Rounds:
    """The rounds of the runs in a store."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[int, list[str]]] = {}
        self._first: dict[str, int] = {}

    def is_over(self, key: str) -> bool:
        """Return whether a key belongs to a round whose keys were freed."""
        if not self._first:  # no round was freed yet: most jobs never come so far
            return False
        place = round_of(key)
        return place is not None and place[1] < self._first.get(place[0], 0)

    def add(self, key: str) -> list[str]:
        """Take note of a new key; return the keys that are to be freed for its sake."""
        place = round_of(key)
        if place is None:
            return []
        run, number = place
        rounds = self._keys.setdefault(run, {})
        if number in rounds:
            rounds[number].append(key)
            return []
        rounds[number] = [key]
        if len(rounds) <= ROUNDS_KEPT:
            return []
        freed = rounds.pop(min(rounds))
        self._first[run] = min(rounds)
        return freed
