"""Finds the folders of the run that is meant: by a path, by a run's name, or the latest one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence

from ...agent.output.run_folders import folder_of_runs
from ..commandline.arguments import Refusal, nearest, quoted
from .records import REPORT, NodeRecord, read_record

_ENDING = ".run"


def chosen_records(names: Sequence[str], variables: Mapping[str, str]) -> list[NodeRecord]:
    """Return what the nodes of one run have kept, node by node.

    Args:
        names: Paths of folders or reports, or names of runs; none: the latest run.
        variables: The environment, which says where the folders of runs are.

    Raises:
        Refusal: There is no such run.
    """
    if not names:
        return _of_one_run(_kept(variables), "")
    found: dict[str, NodeRecord] = {}
    for name in names:
        if os.path.exists(name):
            records = [read_record(name)]
        else:
            records = _of_one_run(_kept(variables), name)
        found |= {os.path.realpath(record.path): record for record in records}
    return sorted(found.values(), key=_place_of)


def _kept(variables: Mapping[str, str]) -> list[str]:
    """Return the folders of runs that have a report, the latest one first."""
    parent = folder_of_runs(variables)
    if not parent:
        raise Refusal("no runs are kept: ELRUN_RUN_DIR is /dev/null; give the path of a report")
    folders = sorted(_with_times(parent), reverse=True)
    if not folders:
        raise Refusal(
            f"no run is kept in {quoted(parent)}; give the path of a report, or name the folder "
            "of runs by ELRUN_RUN_DIR"
        )
    return [folder for _, folder in folders]


def _with_times(parent: str) -> Iterator[tuple[float, str]]:
    with contextlib.suppress(OSError):
        for entry in os.scandir(parent):
            with contextlib.suppress(OSError):
                report = os.path.join(entry.path, REPORT)
                if entry.name.endswith(_ENDING):
                    yield os.stat(report).st_mtime, entry.path


def _of_one_run(folders: Sequence[str], name: str) -> list[NodeRecord]:
    """Return the records of the latest run of that name, of all its nodes that share the folder."""
    records = []
    for folder in folders:
        with contextlib.suppress(Refusal):  # it is another one's, or of another version
            records.append(read_record(folder))
    of_name = _matching(records, name)
    if not of_name:
        known = [each.report["run_id"] for each in records]
        raise Refusal(
            f"no run {quoted(name)} is kept{nearest(name, known)}; "
            f"there are {', '.join(dict.fromkeys(known)) or 'none'}"
        )
    latest = of_name[0]
    if name in (_name_of(latest), str(latest.report["agent_pid"])):  # that one alone
        return [latest]
    same = [
        each
        for each in records
        if each.report["run_id"] == latest.report["run_id"]
        and each.began_at <= latest.ended_at
        and latest.began_at <= each.ended_at
    ]
    return sorted(same, key=_place_of)


def _matching(records: Sequence[NodeRecord], name: str) -> list[NodeRecord]:
    """Return the runs that a name means: those that bear it go before those that begin with it."""
    for is_meant in (
        lambda each: each.report["run_id"] == name,
        lambda each: name in (str(each.report["agent_pid"]), _name_of(each)),
        lambda each: each.report["run_id"].startswith(name),
    ):
        if found := [each for each in records if is_meant(each)]:
            return found
    return []


def _name_of(record: NodeRecord) -> str:
    return os.path.basename(os.path.dirname(record.path))


def _place_of(record: NodeRecord) -> tuple[int, str, int]:
    attempts = record.report["attempts"]
    rank = attempts[-1]["group_rank"] if attempts else 1 << 31
    return rank, record.report["node"], record.report["agent_pid"]
