"""The jobs that `matrix.py` runs, one of each kind, and what each has to print."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).with_name("programs")
JOB_S = 180.0
TIMED_OUT = 124

REDUCE = str(PROGRAMS / "reduce.py")
TWO_SUMS = ["rank 0 of 2: sum 3", "rank 1 of 2: sum 3"]
TWO_VALUES = ["[(0, (0, 30.0)), (1, (1, 30.0))]"]


@dataclass(frozen=True)
class Job:
    """A job, and how it ends if all is well.

    Args:
        name: What it is called in the table.
        commands: Returns the commands that are run side by side, each without its program.
        expected: The lines that they print, sorted.
        program: What each command begins with: a program of the environment's.
    """

    name: str
    commands: Callable[[], Sequence[Sequence[str]]]
    expected: Sequence[str]
    program: str = "elrun"

    def run(self, bin_folder: Path, log: Path) -> str:
        """Return ``ok``, or what went wrong."""
        path = f"{bin_folder}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PET_", "TORCHELASTIC_"))},
            "PATH": path,
            "OMP_NUM_THREADS": "1",
        }
        commands = [[str(bin_folder / self.program), *rest] for rest in self.commands()]
        running = [start(command, environment) for command in commands]
        ends = [finish(process, JOB_S) for process in running]
        with log.open("a") as file:
            for command, (code, out, err) in zip(commands, ends, strict=True):
                file.write(f"\n$ {' '.join(command)}\n{out}{err}[exit code {code}]\n")
        codes = [code for code, _, _ in ends]
        if any(codes):
            return f"exit codes {codes}: {last_line(next(err for code, _, err in ends if code))}"
        lines = sorted(line for _, out, _ in ends for line in out.splitlines())
        return "ok" if lines == list(self.expected) else f"it printed {lines}"


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no word"])[-1]


def start(command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], patience_s: float) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error; kill what takes too long."""
    try:
        out, err = process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        return TIMED_OUT, out, f"{err}\nnot done within {patience_s:g} s"
    return process.returncode, out, err


def run_to_end(
    command: Sequence[str], log: Path, patience_s: float, cwd: Path | None = None
) -> tuple[int, str]:
    """Run a command whose output goes to the log; return its exit code and that output."""
    with log.open("a+") as file:
        file.write(f"\n$ {' '.join(command)}\n")
        file.flush()
        begin = file.tell()
        process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
        try:
            code = process.wait(patience_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = TIMED_OUT
        file.seek(begin)
        return code, file.read()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def two_nodes() -> list[list[str]]:
    endpoint = f"127.0.0.1:{free_port()}"
    node = ["--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint]
    return [[*node, "--rdzv-id", "matrix", REDUCE]] * 2


def always(*command: str) -> Callable[[], list[list[str]]]:
    return lambda: [list(command)]


BASH = ["--no-python", "bash", "-c", "echo $RANK of $WORLD_SIZE"]
TWO = ["--nproc-per-node", "2"]

JOBS = (
    Job("bash", always(*TWO, *BASH), ["0 of 2", "1 of 2"]),
    Job("gloo", always(*TWO, REDUCE), TWO_SUMS),
    *(
        Job(method, always(str(PROGRAMS / "functions.py"), method), TWO_VALUES, "python")
        for method in ("spawn", "fork", "forkserver")
    ),
    *(
        Job(
            f"run-path {method}",
            always(*TWO, "--run-path", "--start-method", method, REDUCE),
            TWO_SUMS,
        )
        for method in ("spawn", "fork", "forkserver")
    ),
    Job("restart", always(*TWO, "--max-restarts", "1", REDUCE, "fails-once"), TWO_SUMS),
    Job("preload", always(*TWO, "--preload", "torch", REDUCE), TWO_SUMS),
    Job("two nodes", two_nodes, TWO_SUMS),
)
