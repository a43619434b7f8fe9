"""Finds the runs of this user on this host: those that go on, and those that have ended."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ...agent.output.run_folders import FOLDER_VARIABLE, folder_of_runs, is_in_use
from .refusal import UNCLEAR, VerbRefusal

_MOST_BYTES = 64 << 20
_MOST_NAMED = 5


class Run(NamedTuple):
    """One agent's run, as its folder tells.

    Args:
        folder: The folder.
        is_live: Whether its agent lives.
        record: What ``run.json`` says, or what the report has instead.
    """

    folder: str
    is_live: bool
    record: Mapping[str, Any]

    @property
    def run_id(self) -> str:
        """The run id."""
        return str(self.record.get("run_id", ""))

    @property
    def agent_pid(self) -> int:
        """The process id of the agent."""
        return int(self.record.get("agent_pid") or 0)

    @property
    def job(self) -> tuple[str, str]:
        """What the agents of one job on this host have in common."""
        place = str(self.record.get("meeting_place") or "")
        return self.run_id, place or self.folder

    @property
    def label(self) -> str:
        """What people call it."""
        name = self.record.get("name") or "?"
        return f"{self.run_id} ({name}, agent {self.agent_pid})"

    def reread(self) -> Mapping[str, Any]:
        """Return what ``run.json`` says by now."""
        return read_json(os.path.join(self.folder, "run.json")) or self.record

    def report(self) -> dict[str, Any] | None:
        """Return the report of the run; None: there is none."""
        return read_json(os.path.join(self.folder, "report.json"))


def find_runs(variables: Mapping[str, str]) -> list[Run]:
    """Return the runs of this user on this host, those that have changed last first.

    Args:
        variables: The environment.
    """
    found = [run for folder in _folders(variables) for run in _runs_in(folder)]
    return [run for _, run in sorted(found, key=lambda pair: -pair[0])]


def choose_job(runs: Sequence[Run], wanted: str | None, verb: str) -> list[Run]:
    """Return the runs on this host of one job: of several agents, if several take part in it here.

    Args:
        runs: All there are.
        wanted: A run id or how one begins, the process id of an agent, or a folder; None: the only
            job that runs.
        verb: The verb, for the sentence.

    Raises:
        VerbRefusal: There is no such job, or there are several.
    """
    live = [run for run in runs if run.is_live]
    if wanted is None:
        meant = live
        if not meant:
            raise VerbRefusal(_nothing_runs(runs, verb))
    else:
        matching = _matching(runs, wanted)
        meant = [run for run in matching if run.is_live] or matching[:1]
        if not meant:
            others = f"; running: {_named(live)}" if live else "; none of yours runs here"
            raise VerbRefusal(f"there is no run {wanted!r} of yours on this host{others}")
    if len({run.job for run in meant}) > 1:
        raise VerbRefusal(
            f"several runs are meant: {_named(meant)}; name one by its run id or its agent's "
            f"process id: elrun {verb} {meant[0].agent_pid}",
            UNCLEAR,
        )
    return meant


def _matching(runs: Sequence[Run], wanted: str) -> list[Run]:
    folder = wanted.rstrip(os.sep)
    for is_meant in (
        lambda run: run.run_id == wanted,
        lambda run: str(run.agent_pid) == wanted,
        lambda run: folder in (os.path.basename(run.folder), run.folder),
        lambda run: run.run_id.startswith(wanted),
    ):
        if wanted and (found := [run for run in runs if is_meant(run)]):
            return found
    return []


def _nothing_runs(runs: Sequence[Run], verb: str) -> str:
    sentence = "no job of yours runs on this host (a job can be seen a second after its start)"
    if runs and verb != "stop":
        last = runs[0]
        sentence += f"; the last one that has ended: elrun {verb} {last.run_id or last.agent_pid}"
    return sentence


def _named(runs: Sequence[Run]) -> str:
    names = [run.label for run in runs[:_MOST_NAMED]]
    more = len(runs) - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")


def _folders(variables: Mapping[str, str]) -> list[str]:
    """Return the folders that hold runs: a job may have had other variables than this command."""
    first = folder_of_runs(variables)
    if variables.get(FOLDER_VARIABLE):
        return [first] if first else []
    user = os.geteuid()
    others = (f"/run/user/{user}/elrun", f"/tmp/elrun-{user}")  # noqa: S108  each run is checked
    return list(dict.fromkeys([first, *others]))


def _runs_in(folder: str) -> Iterator[tuple[float, Run]]:
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    except OSError as error:
        raise VerbRefusal(f"runs in {folder!r} can't be seen: {error.strerror}") from error
    for entry in entries:
        try:
            status = entry.stat(follow_symlinks=False)
            is_ours = status.st_uid == os.geteuid() or os.geteuid() == 0
            if not entry.name.endswith(".run") or not stat.S_ISDIR(status.st_mode) or not is_ours:
                continue
            is_live = is_in_use(entry.path)
        except OSError:  # it is being removed
            continue
        record = read_json(os.path.join(entry.path, "run.json")) or _from_report(entry.path)
        if record is not None:
            yield status.st_mtime, Run(entry.path, is_live, record)


def _from_report(folder: str) -> dict[str, Any] | None:
    report = read_json(os.path.join(folder, "report.json"))
    if report is None:
        return None
    wanted = ("run_id", "name", "node", "agent_pid")
    return {key: report.get(key) for key in wanted}


def read_json(path: str) -> dict[str, Any] | None:
    """Return the object in a file; None: there is none that can be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            found = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
