"""The failures of a run, each once, though several nodes tell of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...agent.failures.report import RootCause
from ...rendezvous.named_tuple import NamedTuple
from .logs import LogEnd, log_ends
from .records import NodeRecord, seconds_of
from .words import what_follows


class Failure(NamedTuple):
    """An attempt that failed.

    Args:
        id: Its name within a page.
        at: When it ended, in seconds since the epoch.
        round: The round's number; None: it is not known.
        reason: What happened, as a sentence.
        root: The first failure, with its traceback; None: it is not known, as of a lost node.
        others: Workers that failed, too: what their nodes have noted of each.
        words: What else was said of it: doubts, and the rule that forbade a restart.
        logs: The ends of the log files of the rank that failed first.
    """

    id: str
    at: float
    round: int | None
    reason: str
    then: str
    root: Mapping[str, Any] | None
    others: Sequence[Mapping[str, Any]]
    words: Sequence[str]
    logs: Sequence[LogEnd]

    @property
    def rank(self) -> int:
        """The rank that failed first; -1: it is not known."""
        return -1 if self.root is None else int(self.root["global_rank"])


def failures_of(records: Sequence[NodeRecord], shifts: Sequence[float]) -> list[Failure]:
    """Return the failures of a run, in the order of time.

    Args:
        shifts: What to add to the times of each.
    """
    found: dict[Any, Failure] = {}
    for record, shift_s in zip(records, shifts, strict=True):
        for number, attempt in enumerate(record.report["attempts"]):
            if not _is_failed(attempt, record, number):
                continue
            place = attempt["round"]
            key = (record.path, number) if place is None else place
            known = found.get(key)
            found[key] = _joined(known, _failure_in(record, number, shift_s))
    return sorted(found.values(), key=lambda each: each.at)


def _is_failed(attempt: Mapping[str, Any], record: NodeRecord, number: int) -> bool:
    end = attempt["end"]
    if end is not None and end["verdict"] in ("worker failed", "node lost"):
        return True
    is_last = number == len(record.report["attempts"]) - 1
    return bool(attempt["failures"]) or (is_last and record.report["root"] is not None)


def _failure_in(record: NodeRecord, number: int, shift_s: float) -> Failure:
    report = record.report
    attempt = report["attempts"][number]
    end: Mapping[str, Any] = attempt["end"] or {}
    is_last = number == len(report["attempts"]) - 1
    root = (report["root"] if is_last else None) or end.get("root")
    node = report["node"]
    doubts = [end.get("doubt", ""), end.get("no_restart", "")]
    return Failure(
        id=f"failure-{number}-{report['agent_pid']}",
        at=shift_s + seconds_of(attempt["ended_at"] or attempt["began_at"]),
        round=attempt["round"],
        reason=_reason_of(root) or end.get("reason", "") or report["reason"],
        then=what_follows(end.get("then", "")),
        root=root,
        others=[{**each, "node": node} for each in attempt["failures"]],
        words=[each for each in doubts if each],
        logs=[] if root is None or root["node"] != node else list(log_ends(root["file"])),
    )


def _joined(one: Failure | None, other: Failure) -> Failure:
    """Return what two nodes tell of one failure."""
    if one is None:
        return other
    known = {(each["node"], each["rank"]) for each in one.others}
    more = [each for each in other.others if (each["node"], each["rank"]) not in known]
    return one._replace(
        root=one.root or other.root,
        reason=one.reason or other.reason,
        others=[*one.others, *more],
        logs=one.logs or other.logs,
        words=list(dict.fromkeys([*one.words, *other.words])),
    )


def _reason_of(root: Mapping[str, Any] | None) -> str:
    if root is None:
        return ""
    try:
        return RootCause.from_json(dict(root)).reason
    except ValueError:
        return str(root["message"])


def stacks_of(records: Sequence[NodeRecord]) -> Iterator[tuple[NodeRecord, Mapping[str, Any]]]:
    """Yield where the ranks of each node were, where somebody asked."""
    for record in records:
        if record.report["places"] is not None:
            yield record, record.report["places"]
