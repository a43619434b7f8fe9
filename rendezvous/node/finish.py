"""How the members of a round agree that its work is done.

Each leaves a mark when its workers have all succeeded, and then looks for the marks of the others.
Whoever comes last finds them all. (A counter would tell who that is, but it bears no signature.) To
look costs little: each begins at its neighbour's and stops at the first that is not there.
"""

from __future__ import annotations

from ..protocol.keys import RoundKeys
from ..protocol.records import Roster
from ..stores.store import Store

_AT_ONCE = 100


def finish(store: Store, keys: RoundKeys, rank: int, members: int) -> bool:
    """Leave a member's mark; return whether all members have left theirs.

    It does no harm to do so twice, when it isn't known what became of the first time.

    Args:
        store: The store.
        keys: The round's keys.
        rank: The member's group rank.
        members: How many the round has.
    """
    store.set({keys.success(rank): b"1"})
    others = [keys.success((rank + step) % members) for step in range(1, members)]
    parts = (others[start : start + _AT_ONCE] for start in range(0, len(others), _AT_ONCE))
    return all(None not in store.get(part) for part in parts)


def has_finished(store: Store, keys: RoundKeys, rank: int) -> bool:
    """Return whether a member's mark is there."""
    return store.get([keys.success(rank)]) != [None]


def has_anybody_finished(store: Store, keys: RoundKeys, roster: Roster) -> bool:
    """Return whether the mark of any member of a round is there."""
    marks = [keys.success(rank) for rank in range(len(roster.members))]
    return any(mark is not None for mark in store.get(marks))
