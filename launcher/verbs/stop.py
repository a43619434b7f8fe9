"""``elrun stop [RUN]``: ends a whole job, from any of its nodes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from ..report.choice import choose_job
from ..report.refusal import VerbRefusal
from ..terminal.console import Console
from .status import agents_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOMENT_S = 3.0


@click.command("stop")
@click.argument("run", required=False)
@click.option("--now", is_flag=True, help="Kill the workers at once.")
@click.pass_obj
def command(variables: Mapping[str, str], run: str | None, *, now: bool) -> int:
    """End a job of yours on all its nodes, and wait until its agents on this host have ended.

    The workers get SIGTERM, and have the time of --shutdown-timeout. Each elrun of the job ends
    with exit code 143, as after SIGTERM.

    RUN is a run id (--rdzv-id) or how one begins, or the process id of an elrun. Without RUN, the
    only job that runs is meant.
    """
    console = Console()
    runs = choose_job(variables, run, "stop")
    if not any(each.is_live for each in runs):
        raise VerbRefusal(f"{runs[0].label} has ended already")
    agents, problems = agents_of(runs)
    limits_s = []
    for agent in agents:
        try:
            limits_s.append(agent.ask("/stop/now" if now else "/stop")["shutdown_timeout_s"])
        except VerbRefusal as refusal:
            if not agent.wait_for_end(
                _MOMENT_S
            ):  # else it has ended while, or before, it was asked
                problems.append(str(refusal))
    if problems and not limits_s:
        raise VerbRefusal(problems[0])
    name = runs[0].run_id
    if limits_s:
        console.say(f"run {name} is being stopped: its workers {_time_of(max(limits_s), now=now)}")
    for agent in agents:
        agent.wait_for_end(None)
    if any(agent.is_hidden for agent in agents):
        console.say(f"elrun status {name} shows the end: it can't be awaited from this namespace")
    else:
        console.say(f"run {name} has been stopped")
    return 0


def _time_of(limit_s: float, *, now: bool) -> str:
    if now:
        return "are killed"
    return "have all the time they need" if limit_s == math.inf else f"have {limit_s:g} s to end"
