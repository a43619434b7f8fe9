"""What is written about a round's seats by others than those who sit there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from .keys import FIRST_BEAT, RoundKeys, RunKeys
from .records import Node, NotTaken, Roster
from .round import places_of
from .wire import write_forming, write_node, write_place


def places_to_write(run: RunKeys, roster: Roster, taken: int) -> dict[str, bytes]:
    """Return what follows from a roster: places, first beats, and where newcomers go now.

    Args:
        run: The run's keys.
        roster: The standing roster.
        taken: Number of seats that were taken.
    """
    keys = run.round(roster.round)
    places = places_of(roster)
    values = {keys.place(n): write_place(places.get(n, NotTaken())) for n in range(taken)}
    beats = {keys.beat(rank): FIRST_BEAT for rank in range(len(places))}
    return {**values, **beats, run.record: write_forming(roster.round + 1)}


def unoccupied(keys: RoundKeys, numbers: Iterable[int], node: Node) -> dict[str, bytes]:
    """Return records that say that these seats have no node, or have it no more.

    Args:
        keys: The round's keys.
        numbers: The seats.
        node: The node that says so.
    """
    record = write_node(replace(node, is_withdrawn=True))
    return {keys.node(number): record for number in numbers}
