"""Cases of restarts: how long they take, and how many in a row succeed."""

import re

import proc
from jobs import ELRUN, PRELOADED, Workplace, workplace
from notes import Note
from rows import FailedError, Figures, Launcher, Plan

LIMIT_S = 60.0
RESTART_LIMIT_S = 15.0  # a restart takes 2 s; what has not come by then hangs
_LIFE_S = 3.0  # few attempts die at once, and what is done behind their backs takes a moment
_EARLY = ("--steps", "22", "--die-at-step", "20", "--die-rank", "0")


def _options(restarts: int) -> tuple[str, ...]:
    return ("--standalone", "--nproc-per-node", "2", "--max-restarts", str(restarts))


def restart_torch(launcher: Launcher, _plan: Plan) -> Figures:
    return {"P3": _restart_gap(launcher, "die_torch.py", life_s=_LIFE_S)}


def restart_plain(launcher: Launcher, _plan: Plan) -> Figures:
    return {"P4": _restart_gap(launcher, "die_plain.py")}


def _restart_gap(launcher: Launcher, script: str, life_s: float = 0.0) -> float:
    variables = {"BENCH_DEATHS": "1", "BENCH_LIFE_S": str(life_s)}
    with workplace() as place:
        place.start(launcher, script, *_options(1), environment=variables)
        (death,) = place.notes.wait(1, lambda note: note.event == "death", LIMIT_S)
        back = _alive(place, 1)
    return max(note.at_s for note in back) - death.at_s


def restart_early(launcher: Launcher, _plan: Plan) -> Figures:
    """Let the example tell its own gap, up to the end of its first step."""
    with workplace() as place:
        job = place.start(launcher, "../../examples/train.py", *_options(1), more=_EARLY)
        job.finish(LIMIT_S)
        found = re.search(r"restart gap ([\d.]+) s", job.process.stdout.read())
    if found is None:
        raise FailedError("no restart")
    return {"P3 early": float(found[1])}


def restart_again_and_again(launcher: Launcher, plan: Plan) -> Figures:
    """Count restarts that succeed: in a row for elrun, one a run for torchrun, which hangs."""
    wanted = plan.restarts if launcher is ELRUN else 1
    variables = {"BENCH_DEATHS": str(wanted)}
    with workplace() as place:
        place.start(launcher, "die_torch.py", *_options(wanted), environment=variables)
        succeeded = 0
        try:
            for attempt in range(wanted + 1):
                _alive(place, attempt)
                succeeded = attempt
        except FailedError:
            pass  # what has succeeded until then counts
    return {"P13": 100 * succeeded / wanted}


def restart_waiting(_launcher: Launcher, plan: Plan) -> Figures:
    """Count restarts in a row that succeed with workers that were there before the death."""
    wanted, succeeded, waited = plan.restarts, 0, 0
    variables = {"BENCH_DEATHS": str(wanted), "BENCH_LIFE_S": str(_LIFE_S)}
    with workplace() as place:
        place.start(PRELOADED, "die_torch.py", *_options(wanted), environment=variables)
        _alive(place, 0)
        try:
            for attempt in range(1, wanted + 1):
                deaths = place.notes.wait(attempt, lambda note: note.event == "death", LIMIT_S)
                back = _alive(place, attempt)
                succeeded += 1
                waited += all(proc.started_s(each.pid) < deaths[-1].at_s for each in back)
        except FailedError:
            pass
    return {"P13 waiting": 100 * succeeded / wanted, "P13 waited": 100 * waited / wanted}


def _alive(place: Workplace, attempt: int) -> list[Note]:
    return place.notes.wait(
        2, lambda note: note.event == "alive" and note.attempt == attempt, RESTART_LIMIT_S
    )
