"""Cases of one agent, with everything on this machine; each runs a launcher once."""

import re
import signal
import statistics
import time

import proc
from jobs import ended_in, workplace
from rows import FailedError, Figures, Launcher, Plan

LIMIT_S = 60.0
SETTLED_S = 6.5
"""When an agent has done what it does once: after five seconds it begins the record of the run."""


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


def watch_and_stop(launcher: Launcher, plan: Plan) -> Figures:
    with workplace() as place:
        job = place.start(launcher, "idle.py", *_options(4))
        agent = job.process.pid
        workers = job.read_pids(4)
        watched = [agent, *(proc.children_of(agent) - set(workers))]  # with its helpers
        time.sleep(SETTLED_S)
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
        if not ended_in(LIMIT_S, [agent]):  # `wait` with a limit looks after 32 ms, then after 64
            return {**figures, "P9": f"not in {LIMIT_S:g} s"}
        return {**figures, "P9": time.monotonic() - asked_s}


def carry_output(launcher: Launcher, _plan: Plan) -> Figures:
    with workplace() as place:
        bill = place.start(launcher, "talk.py", *_options(2, "--tee", "3"), quiet=True)
        taken_s, cpu_s, _ = bill.finish(LIMIT_S)
    return {"P10": taken_s, "P10 CPU": cpu_s}


def carry_errors(launcher: Launcher, _plan: Plan) -> Figures:
    """Count what the end of standard error costs that is kept where it is no terminal.

    A job with workers as busy, but silent, shows what the agent does without.
    """
    cpu_s = {}
    for stream in ("stderr", ""):
        lines = {"BENCH_STREAM": stream}
        with workplace() as place:
            job = place.start(launcher, "talk.py", *_options(2), environment=lines, quiet=True)
            cpu_s[stream] = job.finish(LIMIT_S).cpu_s
    return {"P10 kept CPU": max(0.0, cpu_s["stderr"] - cpu_s[""])}


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
