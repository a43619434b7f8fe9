"""Shows how a job stands, or how it has ended: what ``elrun status`` does."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from typing import TYPE_CHECKING, Any

from ..report.choice import choose_job, records_of, running_jobs, without_report
from ..report.records import number_in
from ..report.refusal import UNCLEAR, VerbRefusal
from ..report.runs import Run, find_runs
from ..terminal.console import Console
from .answers import STANDING, understood
from .asking import Agent
from .processes import Usages
from .status_text import as_text
from .view import Overview, logs_of_ranks, overview_of, overview_of_ended

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_REFRESH_S = 2.0
_NODES_S = 10.0


def show_status(
    variables: Mapping[str, str],
    run: str | None = None,
    form: str = "text",
    *,
    watch: bool = False,
    is_list: bool = False,
) -> int:
    """Show a job; return the exit code.

    Args:
        run: Which one; None: the only job that runs, or a list of several.
        form: ``text`` or ``json``.
        watch: Whether it is shown again and again, until the job ends.
        is_list: Whether all runs are listed instead.

    Raises:
        VerbRefusal: There is no such run, or its agent does not answer.
    """
    console = Console(sys.stdout)
    if is_list:
        if run is not None or watch:
            raise VerbRefusal("--all lists runs: give neither RUN nor --watch with it", UNCLEAR)
        console.answer(_list_of(find_runs(variables), form))
        return 0
    if run is None and not watch and len(jobs := running_jobs(variables)) > 1:
        console.answer(_list_of([each for job in jobs for each in job], form))
        return 0
    runs = choose_job(variables, run, "status")
    is_table = form == "text" and console.stream is not None and console.stream.isatty()
    if watch and runs[0].is_live:
        _keep_showing(runs, console, form, is_table=is_table)
        return 0
    overview = _look(runs, Usages())
    if is_table:
        from .status_table import show  # not in a pipe

        show(overview, console)
    else:
        console.answer(_formatted(overview, form))
    return 0


def _keep_showing(runs: list[Run], console: Console, form: str, *, is_table: bool) -> None:
    """Show a job again and again, until it ends or the user does not want to see more."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        if is_table:
            from .status_table import show_live  # not in a pipe

            show_live(_looks(runs), console)
            return
        for overview in _looks(runs):
            if not console.answer(_formatted(overview, form, is_one_of_many=True)):
                break


def _list_of(runs: list[Run], form: str) -> str:
    from .listing import as_lines, listed  # not for one run

    found = listed(runs)
    return json.dumps(found, indent=2) + "\n" if form == "json" else as_lines(found)


def _formatted(overview: Overview, form: str, *, is_one_of_many: bool = False) -> str:
    if form == "json":
        return json.dumps(overview.to_json(), indent=None if is_one_of_many else 2) + "\n"
    return as_text(overview) + ("\n" if is_one_of_many else "")


def _look(runs: list[Run], usages: Usages) -> Overview:
    agents, problems = agents_of(runs)
    answers = [(agent, _answer_of(agent)) for agent in agents]
    standings = [(agent, each) for agent, each in answers if isinstance(each, dict)]
    problems += [each for _, each in answers if isinstance(each, str)]
    if standings:
        agent, standing = standings[0]
        others: list[dict[str, Any]] = []
        missing: list[int] = []
        is_in_round = standing["state"] != "meeting"  # else its last round's nodes are history
        if is_in_round and (standing["group_world_size"] or 1) > len(standings):
            others, missing, more = _others_than(agent, [each for _, each in standings])
            problems += more
        return overview_of(standings, usages, problems, others, missing)
    ended = _ended(runs)
    if ended is None or (ended.facts["state"] == "killed" and runs[0].is_live):
        raise VerbRefusal(problems[0] if problems else without_report(runs[0]))
    return ended


def _ended(runs: list[Run]) -> Overview | None:
    """Return how a job has ended, as its reports say; None: there are none."""
    from ..report.story import story_of  # not of jobs that run

    records = records_of(runs)
    logs = logs_of_ranks(runs)
    return overview_of_ended(story_of(records), logs) if records else None


def _others_than(
    agent: Agent, known: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[int], list[str]]:
    """Return how the job's nodes elsewhere stand, which do not answer, and what went wrong."""
    try:
        found = agent.ask("/nodes", _NODES_S)
    except VerbRefusal as refusal:
        return [], [], [str(refusal)]
    ours = {each["group_rank"] for each in known}
    age = {"age_s": number_in(found.get("age_s")) or 0.0}
    theirs = [each for each in found["nodes"] if each["group_rank"] not in ours]
    fit, problem = understood(theirs, STANDING)
    others = [{**each, **age} for each in fit]
    silent = {rank for rank in found["missing"] if rank not in ours}
    odd = {each["group_rank"] or 0 for each in theirs if each not in fit}
    return others, sorted(silent | odd), [*filter(None, (found["problem"], problem))]


def _answer_of(agent: Agent) -> dict[str, Any] | str:
    """Return how an agent stands, or why it does not say that."""
    try:
        found: dict[str, Any] = agent.ask("/status")
    except VerbRefusal as refusal:
        return str(refusal)
    return found


def agents_of(runs: list[Run]) -> tuple[list[Agent], list[str]]:
    """Return the agents of a job that can be asked here, and why others can't be."""
    agents: list[Agent] = []
    problems = []
    for run in [run for run in runs if run.is_live]:
        agent = Agent.of(run)
        if isinstance(agent, Agent):
            agents.append(agent)
        else:
            problems.append(agent)
    return agents, problems


def _looks(runs: list[Run]) -> Iterator[Overview]:
    usages = Usages()
    agents, _ = agents_of(runs)
    yield _look(runs, usages)
    while living := [agent for agent in agents if not agent.wait_for_end(0)]:
        if not living[0].wait_for_end(_REFRESH_S):
            with contextlib.suppress(VerbRefusal):  # it has ended just now
                yield _look(runs, usages)
    by_now = [run._replace(is_live=False) for run in runs]
    if (ended := _ended(by_now)) is None:
        raise VerbRefusal(without_report(by_now[0]))
    yield ended
