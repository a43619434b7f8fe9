"""What is measured: each function runs one launcher once and returns its figures by row.

The rows' letters are those of the goals: P1 starts an empty script, P3 restarts one with torch, and
so on. A figure is None where the launcher failed or did not come to an end in time.
"""

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from subprocess import TimeoutExpired

from jobs import (
    ELRUN,
    FLOOR,
    PRELOADED,
    TORCHRUN,
    TORCHRUN_OWN_STORE,
    Launcher,
    children_of,
    cpu_s,
    is_alive,
    proportional_mb,
    resident_mb,
    started,
)

Figures = Mapping[str, float | None]

LIMIT_S = 60.0
RESTART_LIMIT_S = 15.0  # a restart takes 2 s; what has not come by then hangs


@dataclass(frozen=True)
class Plan:
    """How thoroughly to measure.

    Args:
        runs: Runs of each launcher.
        watch_s: How long the idle agent's CPU is watched.
        restarts: Restarts in a row that elrun has to do in P13.
    """

    runs: int
    watch_s: float
    restarts: int


FULL = Plan(runs=5, watch_s=10.0, restarts=40)
QUICK = Plan(runs=3, watch_s=3.0, restarts=5)


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        key: Name of the figure.
        work: What is measured, and in which unit.
        goal: What elrun wants to reach.
        digits: Digits after the point.
        is_share: Whether it counts successes: runs are averaged, and a ratio says nothing.
    """

    key: str
    work: str
    goal: str
    digits: int = 3
    is_share: bool = False


@dataclass(frozen=True)
class Case:
    """A run and the rows that it fills.

    Args:
        rows: The rows.
        run: Runs one launcher once.
        launchers: Who is measured, elrun first.
        once: Launchers of which one run says it all, by name.
    """

    rows: tuple[Row, ...]
    run: Callable[[Launcher, Plan], Figures]
    launchers: tuple[Launcher, ...] = (ELRUN, TORCHRUN)
    once: frozenset[str] = frozenset()


def start_empty(launcher: Launcher, _plan: Plan) -> Figures:
    with started(launcher, "empty.py", "--nproc-per-node", "2") as job:
        return {"P1": job.wait(LIMIT_S)}


def start_torch(launcher: Launcher, _plan: Plan) -> Figures:
    with started(launcher, "all_reduce.py", "--nproc-per-node", "2") as job:
        return {"P2": job.wait(LIMIT_S)}


def restart_torch(launcher: Launcher, _plan: Plan) -> Figures:
    return {"P3": _restart_gap(launcher, "die_torch.py")}


def restart_plain(launcher: Launcher, _plan: Plan) -> Figures:
    return {"P4": _restart_gap(launcher, "die_plain.py")}


def _restart_gap(launcher: Launcher, script: str) -> float | None:
    options = ("--nproc-per-node", "2", "--max-restarts", "1")
    with started(launcher, script, *options, environment={"BENCH_DEATHS": "1"}) as job:
        job.wait(2 * RESTART_LIMIT_S)
        notes = job.notes()
    died = [at_s for event, _, at_s in notes if event == "death"]
    back = [at_s for event, attempt, at_s in notes if event == "alive" and attempt == 1]
    return max(back) - died[0] if len(back) == 2 else None


def watch_and_stop(launcher: Launcher, plan: Plan) -> Figures:
    with started(launcher, "idle.py", "--nproc-per-node", "4") as job:
        agent = job.process.pid
        workers = job.read_pids(4)
        helpers = children_of(agent) - set(workers)
        time.sleep(1)  # the start's own work is done by then
        before_s = sum(map(cpu_s, [agent, *helpers]))
        time.sleep(plan.watch_s)
        used_s = sum(map(cpu_s, [agent, *helpers])) - before_s
        memory_mb = resident_mb(agent)
        with_helpers_mb = sum(map(proportional_mb, [agent, *helpers]))
        asked_s = time.monotonic()
        job.process.send_signal(signal.SIGTERM)
        try:
            job.process.wait(LIMIT_S)
            stopped_s = time.monotonic() - asked_s
        except TimeoutExpired:
            stopped_s = None
    return {"P5 RSS": memory_mb, "P5 PSS": with_helpers_mb, "P5 CPU": used_s, "P9": stopped_s}


def carry_output(launcher: Launcher, _plan: Plan) -> Figures:
    options = ("--nproc-per-node", "2", "--tee", "3")
    with started(launcher, "talk.py", *options, quiet=True) as job:
        taken_s, agent_s = job.wait_and_bill(LIMIT_S)
    return {"P10": taken_s, "P10 CPU": agent_s}


def kill_agent(launcher: Launcher, _plan: Plan) -> Figures:
    with started(launcher, "idle.py", "--nproc-per-node", "4") as job:
        workers = job.read_pids(4)
        job.process.kill()
        time.sleep(1)
        return {"P12": sum(map(is_alive, workers))}


def restart_again_and_again(launcher: Launcher, plan: Plan) -> Figures:
    """Count restarts that succeed: in a row for elrun, one a run for torchrun, which hangs."""
    wanted = plan.restarts if launcher is ELRUN else 1
    options = ("--nproc-per-node", "2", "--max-restarts", str(wanted))
    with started(
        launcher, "die_torch.py", *options, environment={"BENCH_DEATHS": str(wanted)}
    ) as job:
        job.wait(wanted * RESTART_LIMIT_S)
        alive = [attempt for event, attempt, _ in job.notes() if event == "alive"]
    succeeded = sum(alive.count(attempt) == 2 for attempt in range(1, wanted + 1))
    return {"P13": 100 * succeeded / wanted}


CASES = (
    Case(
        (Row("P1", "start and end of an empty script, 2 workers, s", "20 times faster"),),
        start_empty,
        (ELRUN, TORCHRUN, FLOOR),
    ),
    Case(
        (Row("P2", "the same with torch, gloo, one all-reduce, s", "2 times faster", 2),),
        start_torch,
        (ELRUN, PRELOADED, TORCHRUN),
    ),
    Case(
        (Row("P3", "restart gap of a torch script, s (torchrun: own store)", "not slower", 2),),
        restart_torch,
        (ELRUN, PRELOADED, TORCHRUN_OWN_STORE),
    ),
    Case((Row("P4", "restart gap of a script without torch, s", "3 times faster"),), restart_plain),
    Case(
        (
            Row("P5 RSS", "agent of four idle workers: memory, MB", "30 MB", 1),
            Row("P5 PSS", "the same with its helper processes, shared pages divided, MB", "", 1),
            Row("P5 CPU", "the same: CPU while watching, s", "0.00"),
            Row("P9", "SIGTERM to the end of four idle workers, s", "0.05 s"),
        ),
        watch_and_stop,
    ),
    Case(
        (
            Row("P10", "two workers print 500,000 lines each, `--tee 3`, s", "not slower", 2),
            Row("P10 CPU", "the same: the agent's CPU, s", "", 2),
        ),
        carry_output,
    ),
    Case(
        (Row("P12", "workers alive 1 s after the agent's SIGKILL, of 4", "0", 0, is_share=True),),
        kill_agent,
    ),
    Case(
        (Row("P13", "restarts of a gloo job that succeed, %", "100", 0, is_share=True),),
        restart_again_and_again,
        once=frozenset({"elrun"}),
    ),
)
