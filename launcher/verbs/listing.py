"""``elrun status --all``: the runs of this user on this host, a line each."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ..commandline.arguments import Refusal
from ..report.records import read_record
from ..report.refusal import VerbRefusal
from .asking import Agent
from .status_text import ago, columns

if TYPE_CHECKING:
    from ..report.runs import Run

_MOST_AT_ONCE = 64
"""How many agents are asked at once: one that is stopped answers none, for several seconds."""

_HEAD = ("RUN", "NAME", "HOST", "AGENT", "STATE", "RESTARTS", "BEGAN", "ENDED")


def listed(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return what is said of each run, those that go on first.

    Args:
        runs: The runs, the latest first.
    """
    in_order = sorted(runs, key=lambda run: not run.is_live)
    with ThreadPoolExecutor(_MOST_AT_ONCE) as pool:
        answers = pool.map(_of_living, filter(lambda run: run.is_live, in_order))
        return [_about(run, next(answers) if run.is_live else _of_ended(run)) for run in in_order]


def as_lines(found: Sequence[Mapping[str, Any]], now_s: float | None = None) -> str:
    """Return the runs as a table.

    Args:
        found: What is said of each.
        now_s: The time, in seconds since the epoch.
    """
    now_s = time.time() if now_s is None else now_s
    rows = [_HEAD, *(_cells(each, now_s) for each in found)]
    return "".join(f"{line}\n" for line in columns(rows))


def _cells(each: Mapping[str, Any], now_s: float) -> tuple[str, ...]:
    known = [each["run_id"], each["name"], each["node"], each["agent_pid"], each["state"]]
    times = (
        "-" if each[key] is None else ago(max(0.0, now_s - each[key]))
        for key in ("began_at_s", "ended_at_s")
    )
    restarts = "-" if each["restarts"] is None else str(each["restarts"])
    return (*("-" if cell in (None, "") else str(cell) for cell in known), restarts, *times)


def _about(run: Run, known: Mapping[str, Any]) -> dict[str, Any]:
    about = {
        "run_id": run.run_id,
        "name": os.path.basename(str(run.record.get("name") or "")),
        "node": run.record.get("node"),
        "agent_pid": run.agent_pid or None,
        "is_running": run.is_live,
        "state": "no answer" if run.is_live else "unknown",
        "restarts": None,
        "began_at_s": run.began_at_s,
        "ended_at_s": None,
        "folder": run.folder,
    }
    return {**about, **known}


def _of_living(run: Run) -> dict[str, Any]:
    try:
        standing = Agent(run).ask("/status")
    except VerbRefusal:
        return {}
    return {"state": standing["state"], "restarts": standing["restarts"]["spent"]}


def _of_ended(run: Run) -> dict[str, Any]:
    try:
        record = read_record(run.folder)
    except Refusal:
        return {}
    report = record.report
    last = (report["attempts"] or [{}])[-1]
    return {
        "state": "killed" if report["state"] == "running" else report["state"],
        "restarts": last.get("restarts_before"),
        "began_at_s": round(record.began_at, 3),
        "ended_at_s": round(record.ended_at, 3),
    }
