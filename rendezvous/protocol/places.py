"""The values that a sealer writes: the places of all seats, and records for empty seats."""

from __future__ import annotations

from collections.abc import Iterable

from .keys import FIRST_BEAT, RoundKeys, RunKeys
from .records import Node, NotTaken, Roster
from .roster import places_of
from .wire import write_forming, write_node, write_place


def places_to_write(run: RunKeys, roster: Roster, taken: int) -> dict[str, bytes]:
    """Return the values that follow from a roster: places, first beats, and the run's record."""
    keys = run.round(roster.round)
    places = places_of(roster)
    values = {keys.place(n): write_place(places.get(n, NotTaken())) for n in range(taken)}
    beats = {keys.beat(rank): FIRST_BEAT for rank in range(len(places))}
    return {**values, **beats, run.record: write_forming(roster.round + 1)}


def unoccupied(keys: RoundKeys, numbers: Iterable[int], node: Node) -> dict[str, bytes]:
    """Return withdrawn records for seats without a node."""
    record = write_node(node._replace(is_withdrawn=True))
    return {keys.node(number): record for number in numbers}
