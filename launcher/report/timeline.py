"""What each node did when: spans of joining, running, waiting and stopping, on one axis of time."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from ...rendezvous.named_tuple import NamedTuple
from .records import NodeRecord, number_in, seconds_of
from .words import what_follows

MOST_SPANS = 400
"""How many spans of one node are shown; of more, the shortest go."""

NOTICED_S = 1.0
"""Clocks that differ by more than this are put right on the page, which says so."""


class Doing(enum.Enum):
    """What a node does."""

    JOINING = "joining"
    RUNNING = "running"
    WAITING = "waiting"
    STOPPING = "stopping"


class Span(NamedTuple):
    """What a node does for a while.

    Args:
        doing: What.
        began_at: Since when, in seconds since the epoch.
        ended_at: Until when.
        about: More, as a clause; may be empty.
    """

    doing: Doing
    began_at: float
    ended_at: float
    about: str = ""


class Mark(NamedTuple):
    """A moment at which something happened to a node.

    Args:
        at: When, in seconds since the epoch.
        is_failure: Whether a worker failed, or a node was lost.
        text: What happened, and what follows.
    """

    at: float
    is_failure: bool
    text: str


class NodeTimeline(NamedTuple):
    """What a node did.

    Args:
        spans: In the order of time.
        marks: The ends of its rounds.
        shift_s: What was added to its clock's times.
    """

    spans: Sequence[Span]
    marks: Sequence[Mark]
    shift_s: float


_BEGINS = {
    "start": Doing.JOINING,
    "joining": Doing.JOINING,
    "running": Doing.RUNNING,
    "waiting": Doing.WAITING,
    "ended": Doing.STOPPING,
}
_FAILURES = ("worker failed", "node lost")


def timeline_of(record: NodeRecord, shift_s: float = 0.0) -> NodeTimeline:
    """Return what a node did: from its history, or else from its report.

    Args:
        shift_s: Added to the times of its clock.
    """
    events = [line for line in record.history if line["kind"] == "event"]
    found = _from_events(events, record.ended_at) if events else _from_attempts(record)
    spans = sorted(found, key=lambda span: span.ended_at - span.began_at)[-MOST_SPANS:]
    moved = [
        span._replace(began_at=span.began_at + shift_s, ended_at=span.ended_at + shift_s)
        for span in spans
    ]
    return NodeTimeline(
        sorted(moved, key=lambda span: span.began_at),
        [mark._replace(at=mark.at + shift_s) for mark in _marks(record)],
        shift_s,
    )


def _from_events(events: Sequence[Mapping[str, Any]], ended_at: float) -> Iterator[Span]:
    ends = [*events[1:], {"at": ended_at, "event": "end"}]
    doing, began_at, about, delay_s = Doing.JOINING, float(events[0]["at"]), "", 0.0
    for event, following in zip(events, ends, strict=True):
        name, until = event.get("event"), float(following["at"])
        if name == "end":
            return
        if name in _BEGINS:
            doing, began_at = _BEGINS[str(name)], float(event["at"])
            about = str(event.get("reason", ""))
            delay_s = number_in(event.get("delay_s")) or 0.0
        if following.get("event") not in _BEGINS and following.get("event") != "end":
            continue
        paused_at = max(began_at, until - delay_s) if doing is Doing.STOPPING else until
        yield Span(doing, began_at, paused_at, about)
        if paused_at < until:
            yield Span(Doing.WAITING, paused_at, until, f"{delay_s:.3g} s before a restart")


def _from_attempts(record: NodeRecord) -> Iterator[Span]:
    at = record.began_at
    for attempt in record.report["attempts"]:
        began_at = seconds_of(attempt["began_at"])
        if began_at > at:
            yield Span(Doing.JOINING, at, began_at)
        at = seconds_of(attempt["ended_at"]) if attempt["ended_at"] else record.ended_at
        yield Span(Doing.RUNNING, began_at, at)
    if record.ended_at > at:
        yield Span(Doing.STOPPING, at, record.ended_at)


def _marks(record: NodeRecord) -> Iterator[Mark]:
    for attempt in record.report["attempts"]:
        end = attempt["end"]
        if end is not None and attempt["ended_at"]:
            is_failure = end["verdict"] in _FAILURES
            reason = end["reason"] or end["verdict"] or "the round ended"
            yield Mark(
                seconds_of(attempt["ended_at"]),
                is_failure,
                f"{reason}; {what_follows(end['then'])}",
            )


def shifts_of(records: Sequence[NodeRecord]) -> list[float]:
    """Return what to add to each node's times so that its rounds begin when the first node's do.

    The clocks of two nodes may differ, and all nodes of a round begin it at nearly the same moment.
    """
    first = _rounds_of(records[0])
    found = []
    for record in records:
        own = _rounds_of(record)
        differences = [first[number] - own[number] for number in own.keys() & first.keys()]
        shift_s = median(differences) if differences else 0.0
        found.append(shift_s if abs(shift_s) > NOTICED_S else 0.0)
    return found


def _rounds_of(record: NodeRecord) -> dict[int, float]:
    return {
        attempt["round"]: seconds_of(attempt["began_at"])
        for attempt in record.report["attempts"]
        if attempt["round"] is not None
    }
