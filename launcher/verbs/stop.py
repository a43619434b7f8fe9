"""``elrun stop [RUN]``: ends a whole job, from any of its nodes."""

from __future__ import annotations

import math
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from ..report.choice import choose_job
from ..report.records import number_in
from ..report.refusal import VerbRefusal
from ..report.words import counted
from ..terminal.console import Console, printable
from .asking import NoAnswer
from .front import SETTINGS
from .origin import origin_of
from .standing import agents_of
from .status_text import ago

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..report.runs import Run
    from .asking import Agent

_MOMENT_S = 3.0


@click.command("stop", context_settings=SETTINGS)
@click.argument("run", required=False)
@click.option("--now", is_flag=True, help="Kill the workers at once.")
@click.pass_obj
def command(variables: Mapping[str, str], run: str | None, *, now: bool) -> int:
    """End a job of yours on all its nodes, and wait until its agents on this host have ended.

    The workers get SIGTERM, and have the time of --shutdown-timeout. Each elrun of the job ends
    with exit code 143, as after SIGTERM.

    RUN is a run id (--rdzv-id) or how one begins, the name or path of a script, or the process id
    of an elrun. Without RUN, the only job that runs is meant; if that was started in another folder
    and at another terminal, a person is asked first.
    """
    console = Console()
    runs = choose_job(variables, run, "stop")
    if not any(each.is_live for each in runs):
        raise VerbRefusal(f"{runs[0].label} has ended already")
    if run is None and not _is_wanted(runs):
        raise VerbRefusal(f"{runs[0].label} goes on")
    agents, problems = agents_of(runs)
    stopped, more = _ask(agents, now=now)
    problems += more
    if problems and not stopped:
        raise VerbRefusal(problems[0])
    name = runs[0].run_id
    if stopped:
        job = _job(runs[0], [answer for _, answer in stopped])
        limit_s = max(answer["shutdown_timeout_s"] for _, answer in stopped)
        console.say(f"{job} is being stopped: its workers {_time_of(limit_s, now=now)}")
    for problem in problems:
        console.say(problem)
    for agent, _ in stopped:
        agent.wait_for_end(None)
    if any(agent.is_hidden for agent, _ in stopped):
        console.say(f"elrun status {name} shows the end: it can't be awaited from this namespace")
    elif not problems:
        console.say(f"run {name} has been stopped")
    return int(bool(problems))


def _ask(
    agents: Sequence[Agent], *, now: bool
) -> tuple[list[tuple[Agent, dict[str, Any]]], list[str]]:
    """Ask agents to stop; return those that do so with their answers, and why others do not."""
    stopped: list[tuple[Agent, dict[str, Any]]] = []
    problems = []
    for agent in agents:
        try:
            stopped.append((agent, agent.ask("/stop/now" if now else "/stop")))
        except NoAnswer as silence:
            if not agent.wait_for_end(0):
                problems.append(f"{silence}; then it stops the job")
        except VerbRefusal as refusal:
            # It may have ended while it was asked, or before.
            if not agent.wait_for_end(_MOMENT_S):
                problems.append(str(refusal))
    return stopped, problems


def _is_wanted(runs: Sequence[Run]) -> bool:
    """Return whether a job that nobody has named is the one that is meant; a person may be asked.

    A program can't be: it means the only job that runs.
    """
    here = origin_of(os.getpid())
    if any(here.is_shared_with(origin_of(run.agent_pid)) for run in runs):
        return True
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    about = ", ".join(_about(runs[0]))
    return click.confirm(f"elrun: stop run {runs[0].run_id} ({about})?", err=True)


def _about(run: Run) -> list[str]:
    """Return a job's script, and when and where it was started, if that was elsewhere."""
    folder = origin_of(run.agent_pid).folder
    is_elsewhere = folder not in ("", origin_of(os.getpid()).folder)
    place = f" in {printable(folder)}" if is_elsewhere else ""
    began_at_s = run.began_at_s
    age = f" {ago(max(0.0, time.time() - began_at_s))}" if began_at_s else ""
    return [run.name, *([f"started{age}{place}"] if age or place else [])]


def _job(run: Run, answers: Sequence[Mapping[str, Any]]) -> str:
    """Return what is stopped, so that a person sees at once if another job was meant."""
    about = _about(run)
    workers, nodes = (max(_count_in(each, key) for each in answers) for key in ("workers", "nodes"))
    if workers:
        about.append(counted(workers, "worker") + (f" on {nodes} nodes" if nodes > 1 else ""))
    return f"run {run.run_id} ({', '.join(about)})"


def _count_in(answer: Mapping[str, Any], key: str) -> int:
    return int(number_in(answer.get(key)) or 0)


def _time_of(limit_s: float, *, now: bool) -> str:
    if now:
        return "are killed"
    return "have all the time they need" if limit_s == math.inf else f"have {limit_s:g} s to end"
