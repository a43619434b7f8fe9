"""How the members of a round agree that its work is done.

Each leaves a mark when its workers have all succeeded. A counter says when to look whether all
marks are there; it bears no signature, so it proves nothing.
"""

from __future__ import annotations

from .keys import RoundKeys
from .store import Store


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
    if store.add(keys.finished, 1) < members:
        return False
    return None not in store.get([keys.success(each) for each in range(members)])


def has_finished(store: Store, keys: RoundKeys, rank: int) -> bool:
    """Return whether a member's mark is there."""
    return store.get([keys.success(rank)]) != [None]
