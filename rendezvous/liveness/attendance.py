"""Who of those that a forming round counts on is still alive, as the node hears that seals it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..protocol.keys import RunKeys
from ..protocol.records import History, Node
from ..protocol.round import missing_survivors
from .heartbeat import Heart


@dataclass(frozen=True, slots=True)
class Attendance:
    """The records of a forming round, less what has been silent for too long.

    Args:
        seated: The records by seat; those of silent nodes are marked as withdrawn.
        history: The round before; silent members of it that have not come are lost.
        is_passing: Whether a beat alone, or the lack of it, may soon change it.
    """

    seated: Mapping[int, Node]
    history: History | None
    is_passing: bool


def take_attendance(
    heart: Heart,
    run: RunKeys,
    number: int,
    seat: int,
    seated: Mapping[int, Node],
    history: History | None,
) -> Attendance:
    """Return who is alive, and listen to all others that are there or should be.

    Args:
        heart: The sealing node's heart.
        run: The run's keys.
        number: The round.
        seat: The sealing node's seat.
        seated: The records by seat.
        history: The round before, if there was one.
    """
    keys = run.round(number)
    others = {
        keys.seat_beat(each): each
        for each, node in seated.items()
        if each != seat and not node.is_withdrawn
    }
    missing: dict[str, int] = {}
    if history is not None:
        before = run.round(history.roster.round)
        missing = {before.beat(rank): rank for rank in missing_survivors(seated, history)}
    heart.listen_to([*others, *missing])
    silent = heart.silent()
    ghosts = {
        others[key]: replace(seated[others[key]], is_withdrawn=True) for key in silent & set(others)
    }
    lost = [missing[key] for key in silent & set(missing)]
    if history is not None and lost:
        lost = [*history.verdict.lost, *sorted(lost)]
        history = replace(history, verdict=history.verdict._replace(lost=tuple(lost)))
    return Attendance(
        {**seated, **ghosts}, history, is_passing=bool(ghosts or missing.keys() - silent)
    )
