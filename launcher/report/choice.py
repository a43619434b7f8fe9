"""Chooses the run that is meant: by its name, by a path, or the only one that runs, or the latest.

All verbs find runs in the same way, and say in the same words what there is.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence

from ..commandline.arguments import Refusal, nearest
from .left_ranks import ranks_left_by
from .records import NodeRecord, read_record
from .refusal import UNCLEAR, VerbRefusal
from .runs import Run, find_runs, folders_of_runs, run_in

_MOST_NAMED = 5
_OF_RUNNING_JOBS = "stop"
_WITH_RANKS = ("logs", "stacks")
_OF_ENDED_JOBS = ("logs",)


def choose_job(variables: Mapping[str, str], wanted: str | None, verb: str) -> list[Run]:
    """Return the runs on this host of one job: of several agents, if several took part in it here.

    Args:
        variables: The environment, which says where the folders of runs are.
        wanted: A run id or how one begins, the name or the path of a script, the process id of an
            agent, or a folder; None: the only job that runs.

    Raises:
        VerbRefusal: There is no such job, there are several, or the name is empty.
    """
    if wanted is not None:
        _require_name(wanted)
    if wanted is not None and (run := _at_path(wanted)) is not None:
        return [run]
    runs = find_runs(variables)
    if wanted is None:
        meant = [run for run in runs if run.is_live]
        if not meant:
            raise VerbRefusal(_nothing_runs(runs, verb))
    else:
        matching = _matching(runs, wanted)
        live = [run for run in matching if run.is_live]
        meant = live or _of_one_job(matching, wanted)
        if not meant:
            raise _no_such_run(runs, wanted, verb)
    if meant[0].is_live and len({run.job for run in meant}) > 1:
        raise VerbRefusal(
            "several runs are meant; name one by its run id or its agent's process id: "
            f"elrun {verb} {meant[0].agent_pid}",
            UNCLEAR,
            _listed("running", meant),
        )
    return meant


def running_jobs(variables: Mapping[str, str]) -> list[list[Run]]:
    """Return the jobs of this user that run on this host, each with its agents.

    Args:
        variables: The environment, which says where the folders of runs are.
    """
    jobs: dict[tuple[str, str], list[Run]] = {}
    for run in find_runs(variables):
        if run.is_live:
            jobs.setdefault(run.job, []).append(run)
    return list(jobs.values())


def chosen_records(names: Sequence[str], variables: Mapping[str, str]) -> list[NodeRecord]:
    """Return what the nodes of one run have kept, node by node.

    Args:
        names: Paths of folders or reports, or names of runs; none: the latest run.
        variables: The environment, which says where the folders of runs are.

    Raises:
        Refusal: A path leads to no report.
        VerbRefusal: There is no such run, or a name is empty.
    """
    for name in names:
        _require_name(name)
    found: dict[str, NodeRecord] = {}
    for name in names or ("",):
        records = _records_at_path(name) or _records_of_run(name, variables)
        found |= {os.path.realpath(record.path): record for record in records}
    return sorted(found.values(), key=_place_of)


def _require_name(name: str) -> None:
    """Refuse an empty name, which an unset variable of a shell leaves: it would mean any run."""
    if not name:
        raise VerbRefusal("RUN is empty; name a run, or leave RUN out", UNCLEAR)


def _records_of_run(name: str, variables: Mapping[str, str]) -> list[NodeRecord]:
    """Return the records of the latest run that a name means.

    Raises:
        Refusal: No run has this name, which is a path that leads to no report.
        VerbRefusal: There is no such run.
    """
    runs = find_runs(variables)
    kept = _matching([run for run in runs if run.has_report], name)
    if records := records_of(_of_one_job(kept, name)):
        return records
    if os.path.exists(name) and not _matching(runs, name) and not _script_at(name, runs):
        read_record(name)  # raises what is wrong with the file
    raise _no_report(runs, name) if name else VerbRefusal(_nothing_kept(variables))


def records_of(runs: Sequence[Run]) -> list[NodeRecord]:
    """Return the reports of runs in the order of their group ranks, as far as they can be read."""
    records = []
    for run in runs:
        with contextlib.suppress(Refusal):  # there is none yet, or it is of another version
            records.append(_as_left(read_record(run.folder), run))
    return sorted(records, key=_place_of)


def _as_left(record: NodeRecord, run: Run) -> NodeRecord:
    """Return a record whose state is true by now: an agent that has gone runs no more."""
    if run.is_live or record.report["state"] != "running":
        return record
    state, reason = "ended", "the last version of its report could not be kept"
    if run.was_killed:
        state, reason = "killed", "its agent was killed"
    report = {**record.report, "state": state, "reason": reason}
    if run.was_killed and not report["ranks"]:
        report["ranks"] = ranks_left_by(report, run.record)
    return record._replace(report=report)


def _records_at_path(path: str) -> list[NodeRecord]:
    """Return the record of a folder or a report; it may be a copy of one that was running.

    What is no report has none: it may be a script, whose name means its latest run.
    """
    try:
        record = read_record(path)
    except Refusal:
        return []
    run = _at_path(path if os.path.isdir(path) else os.path.dirname(path) or ".")
    return [_as_left(record, run) if run is not None and run.was_killed else record]


def _at_path(wanted: str) -> Run | None:
    """Return the run of a folder that is named by its path."""
    if os.path.isdir(wanted):
        with contextlib.suppress(OSError):
            return run_in(os.path.abspath(wanted))
    return None


def _paths_of(wanted: str) -> tuple[str, ...]:
    """Return what a script's path may be that is named so; no run's own folder is looked at."""
    with contextlib.suppress(OSError):  # the working directory is gone
        return os.path.abspath(wanted), os.path.realpath(wanted)
    return ()


def _matching(runs: Sequence[Run], wanted: str) -> list[Run]:
    """Return the runs that a name means: run ids go before scripts, and whole ones before parts."""
    if not wanted:
        return list(runs)
    paths = _paths_of(wanted)
    for is_meant in (
        lambda run: run.run_id == wanted,
        lambda run: wanted in (str(run.agent_pid), os.path.basename(run.folder)),
        lambda run: run.name == wanted,
        lambda run: run.script in paths,
        lambda run: run.run_id.startswith(wanted),
    ):
        if found := [run for run in runs if is_meant(run)]:
            return found
    return []


def _of_one_job(matching: Sequence[Run], wanted: str) -> list[Run]:
    """Return the latest of some runs whose report can be read, with those of its job's other nodes.

    Nodes that share the folder of runs, or a host, have the run id in common, and the time.
    """
    latest: Run | None = None
    known: NodeRecord | None = None
    for run in matching:
        with contextlib.suppress(Refusal):  # it is of another version, or broken
            latest, known = run, read_record(run.folder)
            break
    if latest is None or known is None:
        return list(matching[:1])
    if wanted in (str(latest.agent_pid), os.path.basename(latest.folder)):  # that one alone
        return [latest]
    found = [latest]
    for run in matching:
        if run is latest or run.run_id != latest.run_id:
            continue
        with contextlib.suppress(Refusal):
            other = read_record(run.folder)
            if other.began_at <= known.ended_at and known.began_at <= other.ended_at:
                found.append(run)
    return found


def _nothing_runs(runs: Sequence[Run], verb: str) -> str:
    sentence = "no job of yours runs on this host (a job can be seen a second after its start)"
    if runs and verb != _OF_RUNNING_JOBS:
        last = runs[0]
        sentence += f"; the last one that has ended: elrun {verb} {last.run_id or last.agent_pid}"
    return sentence


def _nothing_kept(variables: Mapping[str, str]) -> str:
    folders = " or ".join(folders_of_runs(variables))
    if not folders:
        return "no runs are kept: ELRUN_RUN_DIR is /dev/null; give the path of a report"
    return (
        f"no run of yours is kept in {folders}; give the path of a report, or name the folder of "
        "runs by ELRUN_RUN_DIR"
    )


def _no_report(runs: Sequence[Run], wanted: str) -> VerbRefusal:
    for run in _matching(runs, wanted)[:1]:
        if run.is_live and not run.has_report:
            return VerbRefusal(
                f"{run.label} has no report yet: a job has one once it has run for five seconds; "
                f"elrun status {run.agent_pid} shows how it stands"
            )
        return VerbRefusal(without_report(run))
    return _no_such_run(runs, wanted, "report")


def without_report(run: Run) -> str:
    """Return the sentence of a run whose report is not there, or can't be used."""
    end = "runs" if run.is_live else "was killed" if run.was_killed else "has ended"
    return unusable_report(run) or f"{run.label} {end}, and has no report"


def unusable_report(run: Run) -> str:
    """Return why the report of a run can't be used; "": it can, or there is none."""
    try:
        read_record(run.folder)
    except Refusal as error:
        if run.has_report:
            return f"the report of {run.label} can't be used: {error}"
    return ""


def _no_such_run(runs: Sequence[Run], wanted: str, verb: str) -> VerbRefusal:
    script = _script_at(wanted, runs)
    names = {name for run in runs for name in (run.run_id, run.name)}
    hints = [f"did you mean {script}?" if script else nearest(wanted, names).removeprefix("; ")]
    hints.append(_hint_at_rank(runs, wanted, verb))
    live = [run for run in runs if run.is_live]
    ended = [run for run in runs if not run.is_live]
    below = [
        *filter(None, hints),
        *(_listed("running", live) if live else ["none of yours runs here"]),
        *_listed("ended", ended),
    ]
    return VerbRefusal(f"there is no run {wanted!r} of yours on this host", below=below)


def _hint_at_rank(runs: Sequence[Run], wanted: str, verb: str) -> str:
    """Return how to name a rank of a run; "": no run has it, or the verb takes no rank."""
    live = [run for run in runs if run.is_live]
    candidates = live or (runs[:1] if verb in _OF_ENDED_JOBS else [])
    having = [run for run in candidates if wanted in _ranks_of(run)]
    if verb not in _WITH_RANKS or not having:
        return ""
    name = "" if len(live) == 1 else f"{having[0].agent_pid} "
    return f"for rank {wanted}: elrun {verb} {name}--rank {wanted}"


def _ranks_of(run: Run) -> set[str]:
    """Return the ranks of the last attempt that this run has started on this host."""
    attempts = run.record.get("attempts") or [{"ranks": []}]
    return {str(each["rank"]) for each in attempts[-1]["ranks"]}


def _script_at(path: str, runs: Sequence[Run]) -> str:
    """Return the name of a script if a run has it; "" if none has.

    It means no run by itself: another folder may have such a script.
    """
    name = os.path.basename(path)
    return name if any(run.name == name for run in runs) else ""


def _listed(title: str, runs: Sequence[Run]) -> list[str]:
    """Return the latest of some runs, a line each, the first one behind their title."""
    lines = [run.label for run in runs[:_MOST_NAMED]]
    if (more := len(runs) - len(lines)) > 0:
        lines.append(f"and {more} more: elrun status --all")
    gap = " " * len(f"{title}: ")
    return [f"{gap if number else f'{title}: '}{line}" for number, line in enumerate(lines)]


def _place_of(record: NodeRecord) -> tuple[int, str, int]:
    attempts = record.report["attempts"]
    rank = attempts[-1]["group_rank"] if attempts else 1 << 31
    return rank, record.report["node"], record.report["agent_pid"]
