"""What ``elrun status`` shows of a job, put together from the answers of its agents."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ..report.words import as_exit
from .answers import used_by

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..report.runs import Run
    from ..report.story import Story
    from .asking import Agent
    from .processes import Usages

_END_BYTES = 4096
_MOST_LINE_CHARS = 500


class Node(NamedTuple):
    """One node of the job.

    Args:
        group_rank: Its rank; None: it has none yet.
        state: What its agent does; "" if that is not known.
        sign_of_life_s: How long ago its last sign of life was seen; None: that is not known.
    """

    group_rank: int | None
    host: str
    state: str
    sign_of_life_s: float | None


class Rank(NamedTuple):
    """One worker of the job.

    Args:
        pid: Its process id.
        state: What it does, or how it has ended.
        cpu_percent: Of one CPU; None: that is not known.
        memory_bytes: What it has in memory.
        silent_s: How long ago it has printed something.
        gpu_percent: The share of the last moments in which its GPU was busy.
        gpu_memory_bytes: What is in use of its GPU's memory, by all processes.
    """

    rank: int
    node: str
    pid: int | None
    state: str
    cpu_percent: float | None = None
    memory_bytes: int | None = None
    silent_s: float | None = None
    last_line: str | None = None
    gpu_percent: int | None = None
    gpu_memory_bytes: int | None = None


class Overview(NamedTuple):
    """A job at one moment.

    Args:
        facts: The job as a whole.
        notes: What could not be found out, a sentence each.
    """

    facts: Mapping[str, Any]
    nodes: Sequence[Node] = ()
    ranks: Sequence[Rank] = ()
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as one JSON object."""
        return {
            "version": 1,
            **self.facts,
            "nodes": [node._asdict() for node in self.nodes],
            "ranks": [rank._asdict() for rank in self.ranks],
            "notes": list(self.notes),
        }


def overview_of(
    standings: Sequence[tuple[Agent, Mapping[str, Any]]],
    usages: Usages,
    notes: Sequence[str],
    others: Sequence[Mapping[str, Any]] = (),
    missing: Sequence[int] = (),
) -> Overview:
    """Return how a job stands.

    Args:
        standings: What the agents on this host have answered.
        usages: Looks at the workers' processes.
        notes: What could not be found out.
        others: What agents on other hosts have answered.
        missing: The group ranks of those that have not answered.
    """
    in_order = sorted(standings, key=lambda pair: _place_of(pair[1]))
    agent, first = in_order[0]
    facts = {
        "run_id": first["run_id"],
        "name": agent.run.record.get("name"),
        "is_running": True,
        "runs_for_s": _age_of(agent.run, first["since_s"]),
        **{key: first[key] for key in _OF_JOB},
    }
    known = [*(each for _, each in in_order), *others]
    nodes = [
        *(
            Node(each["group_rank"], each["node"], each["state"], each.get("age_s", 0.0))
            for each in known
        ),
        *(Node(rank, "?", "no answer", None) for rank in missing),
    ]
    nodes.sort(key=lambda node: (node.group_rank is None, node.group_rank or 0))
    ranks = [
        _rank_of(worker, each["node"], usages if asked.is_in_our_namespace else None)
        for asked, each in in_order
        for worker in each["workers"]
    ]
    ranks += [_rank_of(worker, each["node"], None) for each in others for worker in each["workers"]]
    return Overview(facts, nodes, sorted(ranks, key=lambda rank: rank.rank), notes)


def _age_of(run: Run, in_state_s: float | None) -> float:
    """Return how long ago a job began: at least as long as it is in its state.

    Its beginning may be known by the host's clock only, which may have been set back meanwhile.
    """
    by_clock_s = time.time() - (run.began_at_s or 0.0)
    return round(max(by_clock_s, in_state_s or 0.0), 3)


_OF_JOB = ("state", "since_s", "round", "group_world_size", "world_size", "restarts", "decision")


def _place_of(standing: Mapping[str, Any]) -> tuple[bool, int]:
    rank = standing["group_rank"]
    return rank is None, -1 if rank is None else rank


def _rank_of(worker: Mapping[str, Any], node: str, usages: Usages | None) -> Rank:
    pid, state = worker["pid"], worker["state"]
    usage = gpu = None
    if usages is not None and pid is not None and state == "running":
        usage, gpu = usages.of(pid), usages.gpus.of(pid)
    cpu_percent, memory_bytes = used_by(worker)
    last_line, silent_s = worker["last_line"], worker["silent_s"]
    if worker["logs"] and usages is not None:
        last_line, silent_s = _newest_line(worker["logs"], last_line, silent_s)
    return Rank(
        worker["rank"],
        node,
        pid,
        state if usage is None else usage.state,
        cpu_percent if usage is None else usage.cpu_percent,
        memory_bytes if usage is None else usage.memory_bytes,
        silent_s,
        last_line,
        None if gpu is None else gpu.busy_percent,
        None if gpu is None else gpu.memory_bytes,
    )


def _newest_line(
    paths: Sequence[str], line: str | None, silent_s: float | None
) -> tuple[str | None, float | None]:
    """Return the last line of the log file that was written last, and how long ago that was."""
    for path in paths:
        # ValueError: a path with a null byte.
        with contextlib.suppress(OSError, ValueError), open(path, "rb") as file:
            status = os.fstat(file.fileno())
            age_s = max(0.0, round(time.time() - status.st_mtime, 3))
            if not status.st_size or (silent_s is not None and silent_s <= age_s):
                continue
            file.seek(max(0, status.st_size - _END_BYTES))
            lines = [
                each for each in file.read().replace(b"\r", b"\n").split(b"\n") if each.strip()
            ]
            line = lines[-1].decode(errors="replace")[:_MOST_LINE_CHARS] if lines else line
            silent_s = age_s
    return line, silent_s


def logs_of_ranks(runs: Sequence[Run]) -> dict[int, list[str]]:
    """Return the log files of each rank of the latest attempt on this host."""
    found: dict[int, list[str]] = {}
    for run in runs:
        attempts = run.reread().get("attempts") or [{}]
        for rank in attempts[-1].get("ranks") or ():
            paths = filter(None, (rank.get("stdout"), rank.get("stderr")))
            found[int(rank["rank"])] = list(paths)
    return found


def overview_of_ended(story: Story, logs: Mapping[int, Sequence[str]]) -> Overview:
    """Return how a job has ended, or was left, as the reports of its nodes say.

    Args:
        logs: The log files of each rank: they have the last line of one that the reports lack.
    """
    verdict = story.verdict
    last = (verdict["attempts"] or [{}])[-1]
    is_cut = verdict["state"] == "running"  # and its agent has gone
    most = verdict["config"].get("max_restarts")
    facts = {
        "run_id": verdict["run_id"],
        "name": os.path.basename(verdict["name"]),
        "is_running": False,
        "state": "killed" if is_cut else verdict["state"],
        "exit_code": verdict["exit_code"],
        "reason": verdict["reason"],
        "began_at": verdict["began_at"],
        "ended_at": verdict["ended_at"],
        "runs_for_s": verdict["duration_s"],
        "round": last.get("round"),
        "group_world_size": last.get("group_world_size"),
        "world_size": last.get("world_size"),
        "restarts": {
            "spent": story.restarts,
            "max": most,
            "left": max(0, most - story.restarts) if isinstance(most, int) else None,
        },
        "report": story.records[0].path,
    }
    nodes = [_ended_node(record.report) for record in story.records]
    ranks = [
        each._replace(
            last_line=each.last_line or _newest_line(logs.get(each.rank, ()), None, None)[0]
        )
        for each in _ended_ranks(story)
    ]
    return Overview(facts, nodes, ranks)


def _ended_node(report: Mapping[str, Any]) -> Node:
    state = "killed" if report["state"] == "running" else report["state"]
    last = (report["attempts"] or [{}])[-1]
    return Node(last.get("group_rank"), report["node"], state, None)


def _ended_ranks(story: Story) -> list[Rank]:
    """Return how each rank ended; where no node knows that, which ranks the last attempt had."""
    if story.ranks:
        return [
            Rank(
                each["global_rank"],
                each["node"],
                each["pid"],
                _end_of(each["state"], each["exitcode"]),
                last_line=each["words"] or None,
            )
            for each in story.ranks
        ]
    found = []
    for record in story.records:
        report = record.report
        last = (report["attempts"] or [{"workers": (), "failures": ()}])[-1]
        failures = {each["rank"]: each for each in last["failures"]}
        is_told = report["state"] in ("succeeded", "stopped", "killed")
        otherwise = report["state"] if is_told else "ended"
        for worker in last["workers"]:
            failure = failures.get(worker["rank"])
            state = otherwise if failure is None else _end_of("failed", failure["exitcode"])
            message = None if failure is None else failure["message"]
            found.append(
                Rank(worker["rank"], report["node"], worker["pid"], state, last_line=message)
            )
    return sorted(found, key=lambda rank: rank.rank)


def _end_of(state: str, exitcode: int | None) -> str:
    """Return the end of a rank in the words of a running job's status."""
    if state != "failed":
        return "stopped" if state.startswith("stopped") else state
    if exitcode is not None and exitcode < 0:
        return f"killed ({as_exit(exitcode)})"
    return f"failed ({as_exit(exitcode)})"
