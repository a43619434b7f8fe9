"""Starts launchers with everything that they start in reach, and leaves nothing behind."""

import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn

import proc
from notes import Notes
from rows import FailedError, Launcher

SCRIPTS = Path(__file__).parent / "scripts"
_MARK = "ELRUN_BENCH_JOB"
# Options of the launchers, the ranks of a scheduler, and what makes every start compile or every
# line a write of its own.
_UNWANTED = re.compile("PET_|SLURM_|PYTHON(DONTWRITEBYTECODE|UNBUFFERED)$")


def _installed(name: str) -> tuple[str, ...]:
    return (str(Path(sys.executable).with_name(name)),)


ELRUN = Launcher("elrun", _installed("elrun"))
PRELOADED = Launcher("preloaded", (*ELRUN.program, "--preload", "torch"))
AUTO = Launcher("auto", (*ELRUN.program, "--preload", "auto"))
TORCHRUN = Launcher("torchrun", _installed("torchrun"))
# As shipped, most restarts of a gloo job hang: the new workers get the old ones' store.
TORCHRUN_OWN_STORE = Launcher(
    "torchrun", TORCHRUN.program, (("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1"),)
)
FLOOR = Launcher("floor", (sys.executable, str(SCRIPTS / "floor.py")))


class Bill(NamedTuple):
    """What a command cost.

    Args:
        taken_s: Seconds from its start to its end.
        cpu_s: CPU seconds of the launcher's own process.
        peak_mb: The most memory that it, or one of its workers, had in use at once.
    """

    taken_s: float
    cpu_s: float
    peak_mb: float


class Job:
    """A command under way.

    Args:
        process: The launcher's process.
        started_s: When it began, by the monotonic clock.
    """

    def __init__(self, process: subprocess.Popen[str], started_s: float) -> None:
        self.process = process
        self.started_s = started_s

    def finish(self, timeout_s: float) -> Bill:
        """Wait for the end, and return what it took.

        Raises:
            FailedError: It failed or took too long.
        """
        pid = self.process.pid
        if not ended_in(timeout_s, [pid]):
            raise FailedError(f"not in {timeout_s:g} s")
        taken_s, cpu_s = time.monotonic() - self.started_s, proc.cpu_s(pid)
        _, status, usage = os.wait4(pid, 0)
        self.process.returncode = code = os.waitstatus_to_exitcode(status)
        if code != 0:
            raise FailedError(f"exit code {code}")
        return Bill(taken_s, cpu_s, usage.ru_maxrss * 1.024e-3)

    def read_pids(self, count: int) -> list[int]:
        """Return the pids that the workers print, as soon as all have.

        Raises:
            FailedError: The launcher has ended before.
        """
        lines = [self.process.stdout.readline() for _ in range(count)]
        if not all(lines):
            raise FailedError("its workers did not start")
        return [int(line) for line in lines]


class Workplace:
    """A folder in which launchers work.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.notes = Notes(folder / "notes")
        self.folder = folder
        self._jobs: list[Job] = []

    def start(
        self,
        launcher: Launcher,
        script: str,
        *options: str,
        environment: Mapping[str, str] | None = None,
        quiet: bool = False,
        more: Sequence[str] = (),
    ) -> Job:
        """Run a launcher.

        Args:
            launcher: Who starts the workers.
            script: Name of a file in scripts/.
            *options: Options of the launcher.
            environment: Variables for the workers.
            quiet: Whether standard output goes to /dev/null; it is a pipe otherwise.
            more: Arguments of the script.
        """
        return self.spawn(
            [*launcher.program, *options, str(SCRIPTS / script), *more],
            {**dict(launcher.environment), **(environment or {})},
            quiet=quiet,
        )

    def spawn(
        self, command: Sequence[str], environment: Mapping[str, str], *, quiet: bool = False
    ) -> Job:
        """Run any command, with variables beside this process's own."""
        variables = {
            **{name: value for name, value in os.environ.items() if not _UNWANTED.match(name)},
            _MARK: str(self.folder),
            "BENCH_NOTES": str(self.notes.path),
            "BENCH_NODE": str(len(self._jobs)),
            "OMP_NUM_THREADS": "1",
            "ELRUN_RUN_DIR": str(self.folder / "runs"),  # `status --all` of others wakes no agent
            **environment,
        }
        started_s = time.monotonic()
        process = subprocess.Popen(
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if quiet else subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            text=True,
            start_new_session=True,
        )
        self._jobs.append(Job(process, started_s))
        return self._jobs[-1]

    def clear(self) -> None:
        """Kill whatever is left of the launchers and of their workers."""
        _kill_all(f"{_MARK}={self.folder}".encode())
        for job in self._jobs:
            job.process.wait()
            if job.process.stdout:
                job.process.stdout.close()
        self.notes.close()


@contextmanager
def workplace() -> Iterator[Workplace]:
    """Make a place for a job, and remove all that is left of it at the end, SIGTERM's as well."""
    signal.signal(signal.SIGTERM, _leave)
    with tempfile.TemporaryDirectory(prefix="elrun-bench-") as folder:
        place = Workplace(Path(folder))
        try:
            yield place
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # until all is cleared
            try:
                place.clear()
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _leave(signal_number: int, _frame: FrameType | None) -> NoReturn:
    """End this program by what its context managers do at an exception."""
    sys.exit(128 + signal_number)


def ended_in(timeout_s: float, pids: list[int]) -> bool:
    """Wait for the ends of processes; return whether all have ended in time."""
    deadline = time.monotonic() + timeout_s
    ends = set()
    for pid in pids:
        with suppress(ProcessLookupError):  # it has ended already
            ends.add(os.pidfd_open(pid))
    running = set(ends)
    while running and (left_s := deadline - time.monotonic()) > 0:
        running -= set(select.select(running, [], [], left_s)[0])
    for end in ends:
        os.close(end)
    return not running


def _kill_all(mark: bytes) -> None:
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):  # it has ended meanwhile, or is another user's
            if mark in Path("/proc", entry, "environ").read_bytes().split(b"\0"):
                os.kill(int(entry), signal.SIGKILL)
