"""Which rounds of a run nobody can need any more, so that the store frees their keys.

A node needs the keys of the round that forms, of the round that it is in, and of the round before.
A node that has stood still, or was cut off, may be some rounds behind: it finds the verdict of its
round, and goes from door to door to the round that forms. So some rounds are kept, and all before
them are freed: a job that restarts for weeks costs its store as much as one that never does.

A key of a freed round is not there, and that must never look as if it were not there *yet*: the
node would sit down alone in a round that is long over. So a store that has freed a round refuses to
count, to create and to wait there, by ``RendezvousRoundOverError``, and drops what else is written.
A member that gets this error was lost by the others, as the run can't go on without it otherwise:
it takes the verdict NODE_LOST, and comes back as a newcomer. A newcomer goes on to the next round.

The store server knows the rounds by the keys that it has (``stores/server/table.py``). Over etcd,
the node that creates the roster of round N frees round N - ``ROUNDS_KEPT``, and counts that at a
key of the run's, which all writes to rounds respect (``stores/etcd/``).
"""

from __future__ import annotations

from ..named_tuple import NamedTuple

ROUNDS_KEPT = 8
"""Of each run, the newest ones."""

_MOST_DIGITS = 16  # Python refuses to read a number of thousands, and nodes never count so far


class RoundOf(NamedTuple):
    """A round of a run.

    Args:
        run: The run's id, as it stands in keys.
    """

    run: str
    number: int

    @property
    def prefix(self) -> str:
        """What the round's keys begin with."""
        return f"run/{self.run}/round/{self.number}/"

    @property
    def freed(self) -> str:
        """Key of the run's: the number of rounds that were freed, from round 0 on."""
        return f"run/{self.run}/freed"

    @property
    def over_reason(self) -> str:
        """The sentence for a node that is too late for the round."""
        return f"round {self.number} is over, and newer ones have taken its place"


def round_of(key: str) -> RoundOf | None:
    """Return the round to which a key belongs; None for other keys."""
    match key.split("/", 4):
        case ["run", run, "round", number, _] if number.isascii() and number.isdigit():
            return RoundOf(run, int(number)) if len(number) <= _MOST_DIGITS else None
        case _:
            return None


def freed_with(key: str) -> RoundOf | None:
    """Return the round that is freed once this key is created; None for most keys."""
    place = round_of(key) if key.endswith("/roster") else None
    if place is None or place.number < ROUNDS_KEPT:
        return None
    return place._replace(number=place.number - ROUNDS_KEPT)
