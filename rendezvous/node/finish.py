"""How the members of a round find out that all of them have finished.

A member writes its success mark when all of its workers have succeeded, and then reads the marks of
the other members. The last member finds all of them. (A counter would be shorter, but a counter
can't be signed.) The read is cheap: each member begins with the mark of the next rank, a hundred
marks at a time, and stops at the first one that is missing.
"""

from __future__ import annotations

from ..protocol.keys import RoundKeys
from ..protocol.records import Roster
from ..stores.steps import Asking, Steps

_MARKS_A_READ = 100


def finish(store: Asking, keys: RoundKeys, rank: int, members: int) -> Steps[bool]:
    """Write a member's success mark; return whether all members have written theirs.

    A second call does no harm, such as one after a call whose answer was lost.
    """
    yield store.set({keys.success(rank): b"1"})
    others = [keys.success((rank + step) % members) for step in range(1, members)]
    parts = (
        others[start : start + _MARKS_A_READ] for start in range(0, len(others), _MARKS_A_READ)
    )
    for part in parts:
        if None in (yield store.get(part)):
            return False
    return True


def has_any_finished(store: Asking, keys: RoundKeys, roster: Roster) -> Steps[bool]:
    """Return whether any member of a round has written its success mark."""
    marks = yield store.get([keys.success(rank) for rank in range(len(roster.members))])
    return any(mark is not None for mark in marks)
