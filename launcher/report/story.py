"""The story of a run as one value: what the page and the text show of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...rendezvous.named_tuple import NamedTuple
from .curves import RankCurves, curves_of
from .failures import Failure, failures_of
from .records import NodeRecord, seconds_of
from .timeline import NodeTimeline, shifts_of, timeline_of
from .words import as_duration, what_follows

FIRST_DECISIONS, LATEST_DECISIONS = 100, 400
"""How many are shown: the first ones, and the latest."""

_SHOWN_S = 0.05
_ONE_MOMENT_S = 10.0
_LAST_WORD = {"succeeded": 0, "running": 1}


class Decision(NamedTuple):
    """Something that happened, and what a node did then.

    Args:
        at: When, in seconds since the epoch.
        text: What.
    """

    at: float
    node: str
    text: str


class NodeStory(NamedTuple):
    """A node of the run."""

    name: str
    timeline: NodeTimeline

    @property
    def label(self) -> str:
        """What it did, as a sentence for those who don't see the picture."""
        times: dict[str, float] = {}
        for span in self.timeline.spans:
            name = span.doing.value
            times[name] = times.get(name, 0.0) + span.ended_at - span.began_at
        failures = sum(mark.is_failure for mark in self.timeline.marks)
        parts = [
            f"{name} for {as_duration(seconds)}"
            for name, seconds in times.items()
            if seconds >= _SHOWN_S
        ]
        noun = "failure" if failures == 1 else "failures"
        if not parts:
            parts = [f"{name} for less than 0.1 s" for name in times]
            parts = parts or ["what it did was not recorded"]
        return f"{self.name}: {', '.join(parts)}; {failures} {noun}"


class Story(NamedTuple):
    """What is known of a run.

    Args:
        records: What its nodes have kept, in the order of their group ranks.
        nodes: What each did.
        axis: From when to when, in seconds since the epoch.
        failures: In the order of time.
        curves: What each rank used.
        ranks: How each rank ended, as far as a node knows.
        decisions: In the order of time.
    """

    records: Sequence[NodeRecord]
    nodes: Sequence[NodeStory]
    axis: tuple[float, float]
    failures: Sequence[Failure]
    curves: Sequence[RankCurves]
    ranks: Sequence[Mapping[str, Any]]
    decisions: Sequence[Decision]

    @property
    def verdict(self) -> Mapping[str, Any]:
        """The report that says most of how the job ended: that of a failure before a success."""
        return max(
            (record.report for record in self.records),
            key=lambda report: (
                report["state"] == "failed",
                report["state"] not in _LAST_WORD,
                report["state"] != "succeeded",
                len(report["ranks"]),
            ),
        )

    @property
    def title(self) -> str:
        """What ran, and as which run."""
        verdict = self.verdict
        name = os.path.basename(verdict["name"]) or "job"
        return f"{name} (run {verdict['run_id'] or 'without a name'})"

    @property
    def restarts(self) -> int:
        """How many restarts the job has spent."""
        return max(
            (
                attempt["restarts_before"] or 0
                for record in self.records
                for attempt in record.report["attempts"]
            ),
            default=0,
        )

    @property
    def world_size(self) -> int:
        """How many ranks the latest round had; 0: there was none."""
        sizes = [
            attempt["world_size"] or len(attempt["workers"])
            for record in self.records
            for attempt in record.report["attempts"][-1:]
        ]
        return max(sizes, default=0)


def story_of(records: Sequence[NodeRecord]) -> Story:
    """Return the story of a run; there is at least one record."""
    shifts = shifts_of(records)
    pairs = list(zip(records, shifts, strict=True))
    begin = min(record.began_at + shift_s for record, shift_s in pairs)
    end = max(record.ended_at + shift_s for record, shift_s in pairs)
    curves = [curve for record, shift_s in pairs for curve in curves_of(record, shift_s)]
    outcomes = max((record.report["ranks"] for record in records), key=len)
    return Story(
        records,
        [NodeStory(_name_of(each), timeline_of(each, shift_s)) for each, shift_s in pairs],
        (begin, max(end, begin + 0.001)),
        failures_of(records, shifts),
        sorted(curves, key=lambda each: (each.rank, each.node)),
        sorted(outcomes, key=lambda each: int(each["global_rank"])),
        _decisions_of(pairs),
    )


def _name_of(record: NodeRecord) -> str:
    attempts = record.report["attempts"]
    ranks = sorted(worker["rank"] for worker in attempts[-1]["workers"]) if attempts else []
    if not ranks:
        return str(record.report["node"])
    name = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]}-{ranks[-1]}"
    return f"{record.report['node']} ({name})"


def _decisions_of(pairs: Sequence[tuple[NodeRecord, float]]) -> list[Decision]:
    names = _distinct_names([record for record, _ in pairs])
    each_node = zip(pairs, names, strict=True)
    found = [
        each
        for (record, shift_s), name in each_node
        for each in _decisions_in(record, shift_s, name)
    ]
    found.sort(key=lambda each: each.at)
    found = sorted(_joined(found), key=lambda each: each.at)
    if len(found) <= FIRST_DECISIONS + LATEST_DECISIONS:
        return found
    left_out = len(found) - FIRST_DECISIONS - LATEST_DECISIONS
    note = Decision(found[FIRST_DECISIONS].at, "", f"{left_out} more are left out here")
    return [*found[:FIRST_DECISIONS], note, *found[-LATEST_DECISIONS:]]


def _distinct_names(records: Sequence[NodeRecord]) -> list[str]:
    """Return the nodes' names, with their agents' process ids where a host has several."""
    names = [str(record.report["node"]) for record in records]
    return [
        name if names.count(name) == 1 else f"{name} (agent {record.report['agent_pid']})"
        for name, record in zip(names, records, strict=True)
    ]


def _joined(decisions: Sequence[Decision]) -> Iterator[Decision]:
    """Yield decisions, in no order; what several nodes tell of one moment becomes one."""
    told: dict[str, list[Decision]] = {}
    for each in decisions:
        group = told.setdefault(each.text, [])
        is_same_moment = not group or each.at - group[0].at < _ONE_MOMENT_S
        if is_same_moment and each.node not in [other.node for other in group]:
            group.append(each)
        else:
            told[each.text] = [each]
            yield from _as_one(group)
    for group in told.values():
        yield from _as_one(group)


def _as_one(group: Sequence[Decision]) -> Iterator[Decision]:
    first = group[0]
    yield first if len(group) == 1 else first._replace(node=f"{len(group)} nodes")


def _decisions_in(record: NodeRecord, shift_s: float, node: str) -> Iterator[Decision]:
    report = record.report
    yield Decision(record.began_at + shift_s, node, "the job began")
    if report["attempts_left_out"]:
        text = f"{report['attempts_left_out']} attempts after the first are not in the report"
        yield Decision(record.began_at + shift_s, node, text)
    for attempt in report["attempts"]:
        began_at = seconds_of(attempt["began_at"]) + shift_s
        place = "" if attempt["round"] is None else f"round {attempt['round']} "
        nodes = attempt["group_world_size"]
        noun = "node" if nodes == 1 else "nodes"
        yield Decision(began_at, node, f"{place}began with {nodes} {noun}")
        end = attempt["end"]
        if end is not None and attempt["ended_at"]:
            yield Decision(seconds_of(attempt["ended_at"]) + shift_s, node, _text_of(end))
    if report["ended_at"]:
        reason = f": {report['reason']}" if report["reason"] else ""
        yield Decision(seconds_of(report["ended_at"]) + shift_s, node, report["state"] + reason)


def _text_of(end: Mapping[str, Any]) -> str:
    delay_s = end["restart_delay_s"]
    delay = f" in {delay_s:.3g} s" if delay_s else ""
    if end["then"] == "finish" and not end["reason"]:
        return "all workers have succeeded"
    parts = [
        end["reason"] or end["verdict"] or "the round ended",
        what_follows(end["then"]) + delay,
    ]
    return "; ".join([*parts, *filter(None, (end["doubt"], end["no_restart"]))])
