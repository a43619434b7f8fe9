"""Finds the runs of this user on this host: those that go on, and those that have ended."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ...agent.control.run_record import SOCKET
from ...agent.output.run_folders import FOLDER_VARIABLE, folder_of_runs, is_in_use
from ...rendezvous.named_tuple import NamedTuple
from .records import REPORT, fault_in
from .refusal import VerbRefusal

RECORD = "run.json"
_ENDING = ".run"
_MOST_BYTES = 64 << 20
_TEXT_OR_NONE, _NUMBER_OR_NONE = (str, type(None)), (int, float, type(None))
_SHAPE: Mapping[str, Any] = {
    **dict.fromkeys(("run_id", "name", "script", "node", "meeting_place"), _TEXT_OR_NONE),
    "agent_pid": (int, type(None)),
    "began_at_s": _NUMBER_OR_NONE,
    "began_at_boot_s": _NUMBER_OR_NONE,
    "attempts": (
        [{"ranks": [{"rank": (int,), "stdout": _TEXT_OR_NONE, "stderr": _TEXT_OR_NONE}]}],
        None,
    ),
}
"""What is read of ``run.json``; each of these may be missing."""


_SET_S = 2.0  # less is a leap second, or lies between two looks at clocks


class Run(NamedTuple):
    """One agent's run, as its folder tells.

    Args:
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
    def name(self) -> str:
        """The name of the script or the function."""
        return os.path.basename(str(self.record.get("name") or "")) or "?"

    @property
    def script(self) -> str:
        """The path of the script, as far as it is known."""
        return str(self.record.get("script") or "")

    @property
    def label(self) -> str:
        """What people call it."""
        return f"{self.run_id} ({self.name}, agent {self.agent_pid})"

    @property
    def began_at_s(self) -> float | None:
        """When it began, by the host's clock as it is set now; None: that is not known."""
        by_clock_s, after_boot_s = map(self.record.get, ("began_at_s", "began_at_boot_s"))
        if self.is_live and after_boot_s is not None:  # the clock may have been set meanwhile
            age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - float(after_boot_s)
            began_at_s = time.time() - age_s
            is_set = by_clock_s is None or abs(began_at_s - float(by_clock_s)) >= _SET_S
            if is_set and age_s >= 0:  # else it runs in another time namespace
                return began_at_s
        return None if by_clock_s is None else float(by_clock_s)

    @property
    def has_report(self) -> bool:
        """Whether it has a report by now."""
        return os.path.exists(os.path.join(self.folder, REPORT))

    @property
    def was_killed(self) -> bool:
        """Whether its agent was killed: one that ends by itself removes its socket."""
        return not self.is_live and os.path.lexists(os.path.join(self.folder, SOCKET))

    def reread(self) -> Mapping[str, Any]:
        """Return what ``run.json`` says by now."""
        return _record_in(self.folder) or self.record


def find_runs(variables: Mapping[str, str]) -> list[Run]:
    """Return the runs of this user on this host, those that have changed last first."""
    found = [run for folder in folders_of_runs(variables) for run in _runs_in(folder)]
    return [run for _, run in sorted(found, key=lambda pair: -pair[0])]


def folders_of_runs(variables: Mapping[str, str]) -> list[str]:
    """Return the folders that hold runs: a job may have had other variables than this command."""
    first = folder_of_runs(variables)
    if variables.get(FOLDER_VARIABLE):
        return [first] if first else []
    user = os.geteuid()
    others = (f"/run/user/{user}/elrun", f"/tmp/elrun-{user}")
    return list(dict.fromkeys([first, *others]))


def run_in(folder: str) -> Run | None:
    """Return the run of a folder; None: it is not the folder of a run.

    Raises:
        OSError: It is not there.
    """
    record = _record_in(folder) or _from_report(folder)
    return None if record is None else Run(folder, is_in_use(folder), record)


def _runs_in(folder: str) -> Iterator[tuple[float, Run]]:
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    except OSError as error:
        raise VerbRefusal(f"runs in {folder!r} can't be seen: {error.strerror}") from error
    for entry in entries:
        with contextlib.suppress(OSError):  # it is being removed
            status = entry.stat(follow_symlinks=False)
            is_ours = status.st_uid == os.geteuid() or os.geteuid() == 0
            if entry.name.endswith(_ENDING) and stat.S_ISDIR(status.st_mode) and is_ours:
                run = run_in(entry.path)
                if run is not None:
                    yield _changed_at(entry.path, status.st_mtime), run


def _changed_at(folder: str, otherwise: float) -> float:
    with contextlib.suppress(OSError):
        return os.stat(os.path.join(folder, REPORT)).st_mtime
    return otherwise


def _record_in(folder: str) -> dict[str, Any] | None:
    return _checked(read_json(os.path.join(folder, RECORD)))


def _from_report(folder: str) -> dict[str, Any] | None:
    report = read_json(os.path.join(folder, REPORT))
    wanted = ("run_id", "name", "script", "node", "agent_pid")
    return report and _checked({key: report.get(key) for key in wanted})


def _checked(record: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a record that has the shape of one; None: it is somebody else's."""
    if record is None or fault_in({**dict.fromkeys(_SHAPE), **record}, _SHAPE):
        return None
    return record


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
