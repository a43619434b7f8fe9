"""Cases of P18: how many histories the simulator makes, and how many nodes one of them may have."""

import re
import sys
from pathlib import Path

from jobs import workplace
from rows import FailedError, Figures, Launcher, Plan

SIMULATION = Path(__file__).parent.parent / "tests" / "simulation"
SEEDS, QUICK_SEEDS = 20_000, 4_000
NODES = 10_000
LIMIT_S = 900.0


def make_histories(_launcher: Launcher, plan: Plan) -> Figures:
    seeds = QUICK_SEEDS if plan.is_quick else SEEDS
    return {"P18": _figure_of(("--seeds", str(seeds)), r"([\d,]+) a minute: all is well")}


def make_one_large(_launcher: Launcher, _plan: Plan) -> Figures:
    return {"P18 nodes": _figure_of(("--nodes", str(NODES)), r"met in ([\d.]+) s")}


def _figure_of(arguments: tuple[str, ...], pattern: str) -> float:
    command = (sys.executable, "-m", "simulator", *arguments)
    with workplace() as place:
        job = place.spawn([*command], {"PYTHONPATH": str(SIMULATION)})
        job.finish(LIMIT_S)
        found = re.search(pattern, job.process.stdout.read())
    if found is None:
        raise FailedError("a history broke a promise")
    return float(found[1].replace(",", ""))
