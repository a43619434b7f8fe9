"""Cases of one agent, with everything on this machine; each runs a launcher once."""

import re
import signal
import statistics
import subprocess
import time

import proc
from jobs import ELRUN, workplace
from rows import FailedError, Figures, Launcher, Plan

LIMIT_S = 60.0
_LIFE_S = 3.0  # few attempts die at once, and what is done behind their backs takes a moment
RESTART_LIMIT_S = 15.0  # a restart takes 2 s; what has not come by then hangs


def _options(workers: int, *more: str) -> tuple[str, ...]:
    return ("--standalone", "--nproc-per-node", str(workers), *more)


def start_empty(launcher: Launcher, _plan: Plan) -> Figures:
    with workplace() as place:
        return {"P1": place.start(launcher, "empty.py", *_options(2)).finish(LIMIT_S).taken_s}


def start_torch(launcher: Launcher, _plan: Plan) -> Figures:
    """Time the whole command, and the moments by which both workers have got so far."""
    with workplace() as place:
        job = place.start(launcher, "all_reduce.py", *_options(2))
        figures = {"P2": job.finish(LIMIT_S).taken_s}
        for note in place.notes.now():
            figures[f"P2 {note.event}"] = note.at_s - job.started_s  # the later one stays
    return figures


def import_alone(launcher: Launcher, _plan: Plan) -> Figures:
    """Time the interpreter and the imports that the launcher's command begins with."""
    with workplace() as place:
        return {"P2 imports": place.spawn(launcher.program, {}).finish(LIMIT_S).taken_s}


def restart_torch(launcher: Launcher, _plan: Plan) -> Figures:
    return {"P3": _restart_gap(launcher, "die_torch.py", life_s=_LIFE_S)}


def restart_plain(launcher: Launcher, _plan: Plan) -> Figures:
    return {"P4": _restart_gap(launcher, "die_plain.py")}


def _restart_gap(launcher: Launcher, script: str, life_s: float = 0.0) -> float:
    variables = {"BENCH_DEATHS": "1", "BENCH_LIFE_S": str(life_s)}
    options = _options(2, "--max-restarts", "1")
    with workplace() as place:
        place.start(launcher, script, *options, environment=variables)
        (death,) = place.notes.wait(1, lambda note: note.event == "death", LIMIT_S)
        back = place.notes.wait(
            2, lambda note: note.event == "alive" and note.attempt == 1, RESTART_LIMIT_S
        )
    return max(note.at_s for note in back) - death.at_s


def watch_and_stop(launcher: Launcher, plan: Plan) -> Figures:
    with workplace() as place:
        job = place.start(launcher, "idle.py", *_options(4))
        agent = job.process.pid
        workers = job.read_pids(4)
        watched = [agent, *(proc.children_of(agent) - set(workers))]  # with its helpers
        time.sleep(1)  # the start's own work is done by then
        switches, used_s = sum(map(proc.switches, watched)), sum(map(proc.scheduled_s, watched))
        time.sleep(plan.watch_s)
        figures = {
            "P5 RSS": proc.resident_mb(agent),
            "P5 PSS": sum(map(proc.proportional_mb, watched)),
            "P5 CPU": (sum(map(proc.scheduled_s, watched)) - used_s) * 1e3 / plan.watch_s,
            "P5 switches": (sum(map(proc.switches, watched)) - switches) / plan.watch_s,
        }
        asked_s = time.monotonic()
        job.process.send_signal(signal.SIGTERM)
        try:
            job.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            return {**figures, "P9": f"not in {LIMIT_S:g} s"}
        return {**figures, "P9": time.monotonic() - asked_s}


def carry_output(launcher: Launcher, _plan: Plan) -> Figures:
    with workplace() as place:
        bill = place.start(launcher, "talk.py", *_options(2, "--tee", "3"), quiet=True)
        taken_s, cpu_s, _ = bill.finish(LIMIT_S)
    return {"P10": taken_s, "P10 CPU": cpu_s}


def carry_lines(launcher: Launcher, plan: Plan) -> Figures:
    """Time lines from the worker's print to this process's pipe, in milliseconds."""
    options = _options(2, "--tee", "3")
    with workplace() as place:
        lines = {"BENCH_LINES": str(plan.lines)}
        job = place.start(launcher, "speak.py", *options, environment=lines)
        late_ms = []
        for line in job.process.stdout:
            said = re.search(r"said at ([\d.]+)", line)
            if said:
                late_ms.append((time.monotonic() - float(said[1])) * 1e3)
    if len(late_ms) < 2 * plan.lines:
        raise FailedError("lines are missing")
    return {"P10 line": statistics.median(late_ms), "P10 slowest": max(late_ms)}


def kill_agent(launcher: Launcher, _plan: Plan) -> Figures:
    with workplace() as place:
        job = place.start(launcher, "idle.py", *_options(4))
        workers = job.read_pids(4)
        job.process.kill()
        time.sleep(1)
        return {"P12": sum(map(proc.is_alive, workers))}


def restart_again_and_again(launcher: Launcher, plan: Plan) -> Figures:
    """Count restarts that succeed: in a row for elrun, one a run for torchrun, which hangs."""
    wanted = plan.restarts if launcher is ELRUN else 1
    options = _options(2, "--max-restarts", str(wanted))
    with workplace() as place:
        place.start(launcher, "die_torch.py", *options, environment={"BENCH_DEATHS": str(wanted)})
        succeeded = 0
        try:
            for attempt in range(wanted + 1):
                place.notes.wait(
                    2,
                    lambda note, now=attempt: note.event == "alive" and note.attempt == now,
                    RESTART_LIMIT_S,
                )
                succeeded = attempt
        except FailedError:
            pass  # what has succeeded until then counts
    return {"P13": 100 * succeeded / wanted}


def start_many(workers: int, launcher: Launcher, _plan: Plan) -> Figures:
    with workplace() as place:
        bill = place.start(launcher, "empty.py", *_options(workers)).finish(2 * LIMIT_S)
    return {f"P14 {workers}": bill.taken_s, f"P14 {workers} MB": bill.peak_mb}
