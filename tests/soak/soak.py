"""Lets jobs restart, print and answer for long, and looks whether anything grows.

    make soak MINUTES=60

Four jobs at once: two nodes that meet over c10d, one node that preloads, and one node each over a
store whose keys are counted (``counted_stores.py``). Their workers print thousands of lines a
second and die every few seconds; `elrun status` asks all of them all the time. What is looked at,
each few seconds: memory, descriptors and threads of each of elrun's processes, the files in the
temporary folder, and the keys in the stores. The figures go between the markers of
``docs/soak.md``. The exit code is 1 if something grew, or a job did not end as it should.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from counted_stores import EtcdStore, ServedStore
from matrix_jobs import free_port

TREE = Path(__file__).parents[2]
NOISY = Path(__file__).with_name("noisy.py")
ELRUN = Path(sys.executable).with_name("elrun")
PAGE = TREE / "docs/soak.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"

SAMPLE_S = 5.0
ENDING_S = 120.0
# At first caches fill, which is not counted. The part after that is compared with the last one.
WARM_UP, PART = 0.2, 0.2
# The memory of an agent fills for longer: so many attempts stand in a report.
FILLING_RESTARTS = 200
MB = 1 << 20


@dataclass(frozen=True)
class Measure:
    """What is looked at of a process.

    Args:
        name: What it is called in the table.
        unit: How its numbers are shown: divided by this.
        slack: How much more at the end is no growth: the allocator's pages, a worker being started.
    """

    name: str
    unit: int
    slack: float


MEMORY = Measure("memory, MB", MB, 3 * MB)
DESCRIPTORS = Measure("descriptors", 1, 4)
THREADS = Measure("threads", 1, 1)
FILES = Measure("files in the temporary folder", 1, 8)
KEYS = Measure("keys in its store", 1, 16)


@dataclass
class Series:
    """One measure of one thing over the time.

    Args:
        subject: What it is of, such as ``agent 0 of the job over c10d``.
        measure: What was looked at.
        values: What was seen, in order.
        filling: How many of these were seen while it was still being filled.
    """

    subject: str
    measure: Measure
    values: list[float] = field(default_factory=list)
    filling: int = 0

    def part(self) -> int:
        return max(1, int(len(self.values) * PART))

    def early(self) -> float:
        """Return what was seen when it was filled; of one that never was, what was seen last."""
        first = max(
            int(len(self.values) * WARM_UP), min(self.filling, len(self.values) - self.part())
        )
        return statistics.median(self.values[first : first + self.part()])

    def late(self) -> float:
        return statistics.median(self.values[-self.part() :])

    def has_grown(self) -> bool:
        return self.late() > self.early() * 1.05 + self.measure.slack


class Job:
    """The agents of one job, and where each of their outputs goes.

    Args:
        name: What the job is called.
        commands: Its agents' options.
        folder: For logs and the console.
        environment: What the agents inherit.
        store: Where they meet, if its keys are to be counted.
    """

    def __init__(
        self,
        name: str,
        commands: Sequence[Sequence[str]],
        folder: Path,
        environment: dict[str, str],
        store: ServedStore | EtcdStore | None = None,
    ) -> None:
        self.name = name
        self.store = store
        self.run_id = name.replace(" ", "-")
        self.consoles = [folder / f"{self.run_id}-{i}.txt" for i in range(len(commands))]
        self.agents = []
        for options, path in zip(commands, self.consoles, strict=True):
            command = [str(ELRUN), "--rdzv-id", self.run_id, *options, str(NOISY)]
            with path.open("w") as console:
                self.agents.append(
                    psutil.Popen(
                        command,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=console,
                        start_new_session=True,
                    )
                )

    def processes(self) -> Iterator[tuple[str, psutil.Process]]:
        """Yield elrun's own processes that may live as long as the job."""
        for number, agent in enumerate(self.agents):
            yield f"{self.name}, agent {number}", agent
            for child in agent.children():
                name = name_of(child)
                if name.startswith("elrun-") and name != "elrun-store":
                    yield f"{self.name}, {name} {number}", child

    def restarts(self) -> int:
        return self.consoles[0].read_text(errors="replace").count("restarting all workers")

    def end(self) -> list[int]:
        """Wait for the agents; return their exit codes, -9 for one that had to be killed."""
        deadline = time.monotonic() + ENDING_S
        for agent in self.agents:
            try:
                agent.wait(max(0.0, deadline - time.monotonic()))
            except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
                os.killpg(agent.pid, signal.SIGKILL)
                agent.wait()
        return [agent.returncode for agent in self.agents]


def name_of(process: psutil.Process) -> str:
    """Return what a process is called; "" of one that has just ended, as workers do."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


class Watch:
    """What was seen of all processes."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], Series] = {}

    def look(self, jobs: Sequence[Job], folder: Path) -> None:
        for job in jobs:
            is_filling = job.restarts() < FILLING_RESTARTS
            for subject, process in job.processes():
                try:
                    with process.oneshot():
                        self._add(subject, MEMORY, process.memory_info().rss, is_filling=is_filling)
                        self._add(subject, DESCRIPTORS, process.num_fds())
                        self._add(subject, THREADS, process.num_threads())
                except psutil.NoSuchProcess:
                    continue
        self._add("all jobs", FILES, sum(1 for _ in folder.rglob("*")))
        for job in jobs:
            if job.store is not None:
                self._add(job.name, KEYS, job.store.keys())

    def _add(
        self, subject: str, measure: Measure, value: float, *, is_filling: bool = False
    ) -> None:
        series = self._series.setdefault((subject, measure.name), Series(subject, measure))
        series.values.append(value)
        if is_filling:
            series.filling = len(series.values)

    def series(self) -> list[Series]:
        longest = max((len(each.values) for each in self._series.values()), default=0)
        return [each for each in self._series.values() if len(each.values) > longest // 2]


def ask(job: Job, environment: dict[str, str]) -> bool:
    """Ask for the job's status; return whether it was answered."""
    command = [str(ELRUN), "status", job.run_id, "--format", "json"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode == 0


def render(series: Sequence[Series]) -> Iterator[str]:
    """Return the table's lines, in Markdown."""
    yield "| of | | when filled | at the end | most |"
    yield "|---|---|---:|---:|---:|"
    for each in series:
        early, late, most = (
            f"{value / each.measure.unit:.1f}".removesuffix(".0")
            for value in (each.early(), each.late(), max(each.values))
        )
        mark = " **grown**" if each.has_grown() else ""
        yield f"| {each.subject} | {each.measure.name} | {early} | {late}{mark} | {most} |"


def write_page(lines: Sequence[str]) -> None:
    """Put the figures between the page's markers."""
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text("\n".join([f"{before}{BEGIN}", "", *lines, "", f"{END}{after}"]))


def start_jobs(folder: Path, environment: dict[str, str]) -> list[Job]:
    endpoint = f"127.0.0.1:{free_port()}"
    common = ["--max-restarts", "1000000", "--redirects", "3", "--hang-timeout", "60"]
    common += ["--log-dir", str(folder / "logs"), "--nproc-per-node"]
    pair = ["--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, *common, "2"]
    alone = ["--standalone", "--preload", "json", "--tee", "1", *common, "2"]
    jobs = [
        Job("over c10d", [pair, pair], folder, environment),
        Job("preloaded", [alone], folder, environment),
    ]
    for backend, store in (("c10d", ServedStore()), ("etcd-v3", EtcdStore())):
        few = ["--nnodes", "1:2", "--rdzv-conf", "last_call_timeout=0", "--rdzv-backend", backend]
        few += ["--rdzv-endpoint", store.endpoint, *common, "1"]
        jobs.append(Job(f"counted {backend}", [few], folder, environment, store))
    return jobs


def soak(minutes: float, folder: Path) -> tuple[list[str], bool]:
    """Return the page's lines, and whether all was well."""
    temporary = folder / "tmp"
    temporary.mkdir()
    enough = folder / "enough"
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("PET_", "TORCHELASTIC_"))},
        "TMPDIR": str(temporary),
        "ELRUN_RUN_DIR": str(folder / "runs"),
        "SOAK_ENOUGH": str(enough),
    }
    jobs = start_jobs(folder, environment)
    watch, answered, asked = Watch(), 0, 0
    deadline = time.monotonic() + minutes * 60
    try:
        while time.monotonic() < deadline and all(a.is_running() for j in jobs for a in j.agents):
            looked_at = time.monotonic()
            watch.look(jobs, temporary)
            while time.monotonic() < looked_at + SAMPLE_S:
                for job in jobs:
                    asked += 1
                    answered += ask(job, environment)
                time.sleep(0.2)
    finally:
        enough.touch()
        codes = [job.end() for job in jobs]
        for job in jobs:
            if job.store is not None:
                job.store.close()
    left = [path.name for path in temporary.rglob("*")]
    restarts = {job.name: job.restarts() for job in jobs}
    well = not any(any(each) for each in codes) and not left
    well = well and not any(each.has_grown() for each in watch.series())
    now = dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%d")
    how = (
        f"Run on {now}, {minutes:g} minutes, Python {platform.python_version()}, {os.cpu_count()}"
        f" cores: {', '.join(f'{count:,} restarts {name}' for name, count in restarts.items())};"
        f" {answered:,} of {asked:,} questions for the status were answered;"
        f" exit codes {codes}; left in the temporary folder: {left or 'nothing'}."
    )
    lines = [how, "", *render(watch.series())]
    return lines, well


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--write", action="store_true", help="put the figures into docs/soak.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="elrun-soak-") as folder:
        lines, well = soak(options.minutes, Path(folder))
    print("\n".join(lines))
    if options.write:
        write_page(lines)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
