"""Tells what the priority of `--preload auto`'s import gives to an early restart, and takes.

    python benchmarks/early.py

Two workers of examples/train.py die at step 20. The process that imports behind them is given each
policy in turn until then. It prints the figures of docs/decisions/0010-preload-auto.md: medians of
how long the first attempt took, how much CPU the import had had by then, and the restart gap. The
workers and that process are in one CPU cgroup of their own where that can be made (cgroup version
1, root): else the kernel's autogroup may hide what a policy does. That cgroup outweighs whatever
else the machine does.
"""

import argparse
import contextlib
import os
import re
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import proc
from jobs import AUTO, Workplace, workplace
from rows import FailedError

_CPU_CGROUPS = Path("/sys/fs/cgroup/cpu")
_SHARES = "40960"  # 1024 are usual
_LIMIT_S = 120.0
_LOOK_S = 0.01
_OPTIONS = ("--standalone", "--nproc-per-node", "2", "--max-restarts", "1")
_TRAIN = ("--steps", "22", "--die-at-step", "20", "--die-rank", "0", "--checkpoint")
_NICE = {"SCHED_IDLE": None, "nice 19": 19, "nice 10": 10, "nice 0": 0}


class Early(NamedTuple):
    """What became of one job; all in seconds."""

    first_attempt: float
    imported_by_then: float
    gap: float


def main() -> None:
    """Print a line for each priority."""
    parser = argparse.ArgumentParser(description="The priority of an import behind an attempt.")
    parser.add_argument("--runs", type=int, default=3, help="of each priority, in turns")
    runs = parser.parse_args().runs
    found: dict[str, list[Early]] = {name: [] for name in _NICE}
    with _cgroup():
        for _ in range(runs):
            for name, nice in _NICE.items():
                found[name].append(_run(nice))
    for name, jobs in found.items():
        first, imported, gap = (statistics.median(each) for each in zip(*jobs, strict=True))
        print(f"{name:10}: died after {first:.2f} s; {imported:.2f} s imported; gap {gap:.2f} s")


def _run(nice: int | None) -> Early:
    with workplace() as place:
        began_s = time.time()
        job = place.start(
            AUTO, "../../examples/train.py", *_OPTIONS, more=(*_TRAIN, str(place.folder))
        )
        imported_s = _watch(job.process, place, nice)
        job.finish(_LIMIT_S)
        gap = re.search(r"restart gap ([\d.]+) s", job.process.stdout.read())
        if gap is None:
            raise FailedError("no restart")
        died_s = (place.folder / "died").stat().st_mtime
    return Early(died_s - began_s, imported_s, float(gap[1]))


def _watch(agent: subprocess.Popen[str], place: Workplace, nice: int | None) -> float:
    """Give the importing process its priority until a worker dies; return its CPU seconds then."""
    importer, imported_s = 0, 0.0
    while agent.poll() is None and not (place.folder / "died").exists():
        with contextlib.suppress(OSError):  # a process has ended meanwhile
            importer = importer or _importer_of(agent.pid)
            if importer:
                imported_s = proc.scheduled_s(importer)
                if nice is not None and os.sched_getscheduler(importer) == os.SCHED_IDLE:
                    os.sched_setscheduler(importer, os.SCHED_OTHER, os.sched_param(0))
                    os.setpriority(os.PRIO_PROCESS, importer, nice)
        time.sleep(_LOOK_S)
    if importer:
        os.setpriority(os.PRIO_PROCESS, importer, 0)
    return imported_s


def _importer_of(agent: int) -> int:
    names = {pid: Path(f"/proc/{pid}/comm").read_text() for pid in proc.children_of(agent)}
    return next((pid for pid, name in names.items() if name == "elrun-preload\n"), 0)


@contextlib.contextmanager
def _cgroup() -> Iterator[None]:
    """Put this process and what it starts into a CPU cgroup of their own, if there can be one."""
    own, here = _CPU_CGROUPS / f"elrun-early-{os.getpid()}", str(os.getpid())
    try:
        own.mkdir()
        (own / "cpu.shares").write_text(_SHARES)
        (own / "cgroup.procs").write_text(here)
    except OSError as error:
        print(f"no CPU cgroup ({error.strerror}): autogroup may hide the priorities")
        yield
        return
    try:
        yield
    finally:
        (_CPU_CGROUPS / "cgroup.procs").write_text(here)
        with contextlib.suppress(OSError):  # what was killed may not have gone yet
            own.rmdir()


if __name__ == "__main__":
    main()
