"""Starts a launcher with everything it starts in reach, and leaves nothing behind."""

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).parent / "scripts"
_MARK = "ELRUN_BENCH_JOB"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class JobFailedError(Exception):
    """The launcher ended before its workers had done what is measured."""


@dataclass(frozen=True)
class Launcher:
    """A command that starts workers.

    Args:
        name: What the table calls it.
        program: How the command begins.
        environment: Variables it gets beside this process's own.
    """

    name: str
    program: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()


def _installed(name: str) -> tuple[str, ...]:
    return (str(Path(sys.executable).with_name(name)), "--standalone")


ELRUN = Launcher("elrun", _installed("elrun"))
PRELOADED = Launcher("preloaded", (*ELRUN.program, "--preload", "torch"))
TORCHRUN = Launcher("torchrun", _installed("torchrun"))
# As shipped, most restarts of a gloo job hang: the new workers get the old ones' store.
TORCHRUN_OWN_STORE = Launcher(
    "torchrun", TORCHRUN.program, (("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1"),)
)
FLOOR = Launcher("floor", (sys.executable, str(SCRIPTS / "floor.py")))


class Job:
    """A command under way.

    Args:
        process: The launcher's process.
        notes: The file in which workers note what happens to them.
        started_s: When it began, by the monotonic clock.
    """

    def __init__(self, process: subprocess.Popen[str], notes: Path, started_s: float) -> None:
        self.process = process
        self._notes = notes
        self._started_s = started_s

    def wait(self, timeout_s: float) -> float | None:
        """Return the seconds from start to end, or None if it failed or took too long."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        return time.monotonic() - self._started_s if code == 0 else None

    def wait_and_bill(self, timeout_s: float) -> tuple[float, float]:
        """Return the seconds from start to end, and the launcher's own CPU seconds.

        Raises:
            JobFailedError: It failed or took too long.
        """
        end = os.pidfd_open(self.process.pid)
        ended, _, _ = select.select([end], [], [], timeout_s)
        os.close(end)
        taken_s, used_s = time.monotonic() - self._started_s, cpu_s(self.process.pid)
        if not ended or self.process.wait() != 0:
            raise JobFailedError
        return taken_s, used_s

    def read_pids(self, count: int) -> list[int]:
        """Return the pids that the workers print, as soon as all have.

        Raises:
            JobFailedError: The launcher has ended before.
        """
        lines = [self.process.stdout.readline() for _ in range(count)]
        if not all(lines):
            raise JobFailedError
        return [int(line) for line in lines]

    def notes(self) -> list[tuple[str, int, float]]:
        """Return what the workers noted: event, attempt, monotonic seconds."""
        lines = self._notes.read_text().splitlines() if self._notes.exists() else []
        words = (line.split() for line in lines)
        return [(event, int(attempt), float(at_s)) for event, attempt, at_s in words]


@contextmanager
def started(
    launcher: Launcher,
    script: str,
    *options: str,
    environment: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> Iterator[Job]:
    """Run the launcher; at the end, kill whatever is left of it and of its workers.

    Args:
        launcher: Who starts the workers.
        script: Name of a file in scripts/.
        *options: Options of the launcher.
        environment: Variables for the workers.
        quiet: Whether standard output goes to /dev/null; it is a pipe otherwise.
    """
    with tempfile.TemporaryDirectory(prefix="elrun-bench-") as folder:
        mark = f"{_MARK}={folder}"
        notes = Path(folder, "notes")
        variables = os.environ | {_MARK: folder, "BENCH_NOTES": str(notes), "OMP_NUM_THREADS": "1"}
        started_s = time.monotonic()
        process = subprocess.Popen(
            [*launcher.program, *options, str(SCRIPTS / script)],
            env={**variables, **dict(launcher.environment), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if quiet else subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            text=True,
            start_new_session=True,
        )
        try:
            yield Job(process, notes, started_s)
        finally:
            _kill_all(mark.encode())
            process.wait()
            if process.stdout:
                process.stdout.close()


def _kill_all(mark: bytes) -> None:
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):  # it has ended meanwhile, or is another user's
            if mark in Path("/proc", entry, "environ").read_bytes().split(b"\0"):
                os.kill(int(entry), signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Return whether the process runs; a zombie doesn't."""
    try:
        return _stat(pid)[0] not in "ZX"
    except OSError:
        return False


def children_of(pid: int) -> set[int]:
    """Return the pids of its children, by whichever of its threads."""
    tasks = Path("/proc", str(pid), "task").glob("*/children")
    return {int(child) for task in tasks for child in task.read_text().split()}


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used, threads included; also of a zombie."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def resident_mb(pid: int) -> float:
    """Return the memory that is mapped into a process, in MB, shared pages in full."""
    return _kilobytes(Path("/proc", str(pid), "status"), "VmRSS:") / 1000


def proportional_mb(pid: int) -> float:
    """Return the memory that a process stands for, in MB: shared pages divided by their users."""
    return _kilobytes(Path("/proc", str(pid), "smaps_rollup"), "Pss:") / 1000


def _kilobytes(path: Path, key: str) -> float:
    line = next(line for line in path.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1.024


def _stat(pid: int) -> list[str]:
    return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
