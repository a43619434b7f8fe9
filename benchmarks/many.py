"""Cases of many workers on one node: their start and end, and a look at them."""

import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

from jobs import ELRUN, FLOOR, SCRIPTS, workplace
from rows import FailedError, Figures, Launcher, Plan

LIMIT_S = 120.0
WATCHED = 64
_LIFE_S = 3.0  # an agent answers once its workers have lived for a second
PRELOADED = Launcher("preloaded", (*ELRUN.program, "--preload", "json"))


def start_many(workers: int, launcher: Launcher, _plan: Plan) -> Figures:
    options = ("--standalone", "--nproc-per-node", str(workers))
    with workplace() as place:
        if launcher is FLOOR:
            words = [_loop(), str(workers), sys.executable, str(SCRIPTS / "empty.py")]
            job = place.spawn(words, {}, quiet=True)
        else:
            job = place.start(launcher, "empty.py", *options)
        bill = job.finish(LIMIT_S)
    return {f"P14 {workers}": bill.taken_s, f"P14 {workers} MB": bill.peak_mb}


def fork_many(workers: int, _launcher: Launcher, _plan: Plan) -> Figures:
    """Fork as many from one interpreter, with nothing around them."""
    with workplace() as place:
        words = [sys.executable, str(SCRIPTS / "forks.py"), str(workers)]
        bill = place.spawn(words, {}, quiet=True).finish(LIMIT_S)
    return {f"P14 {workers} forks": bill.taken_s}


def ask_status(launcher: Launcher, _plan: Plan) -> Figures:
    """Time ``elrun status`` of a job whose workers idle."""
    with workplace() as place:
        options = ("--standalone", "--nproc-per-node", str(WATCHED))
        place.start(launcher, "idle.py", *options).read_pids(WATCHED)
        time.sleep(_LIFE_S)
        taken_s = []
        for _ in range(3):
            asked = place.spawn([*launcher.program, "status"], {})
            taken_s.append(asked.finish(LIMIT_S).taken_s)
            if f"{WATCHED}" not in asked.process.stdout.read():
                raise FailedError("it shows no such job")
    return {"P17": min(taken_s)}


@cache
def _loop() -> str:
    """Return a compiled loop in C; see ``scripts/floor.c``."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise FailedError("no C compiler here")
    program = Path(tempfile.mkdtemp(prefix="elrun-bench-")) / "floor"
    subprocess.run([compiler, "-O2", "-o", program, SCRIPTS / "floor.c"], check=True)
    return str(program)
