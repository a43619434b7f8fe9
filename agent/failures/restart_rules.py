"""Decides by cause whether a failed attempt is followed by another one: a pure function.

Without options the budget is spent as under torchrun: any failure costs one of ``--max-restarts``.
The node on which a worker failed decides for the job and writes its decision into the verdict, so
that all nodes do the same, whatever each of them knows of earlier attempts.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...rendezvous.named_tuple import NamedTuple
from .restart_causes import Causes, Death

START_S = 5.0
"""An attempt that ends sooner has died at its start."""

STEADY_S = 600.0
"""An attempt that lived longer was no failure in a row: delays begin anew after it."""

LONGEST_DELAY_S = 300.0
HOPELESS_IN_A_ROW = 3

_JITTER = 0.25


class RestartRules(NamedTuple):
    """What the user wants to be restarted, and how, besides how often.

    Args:
        only_on: If not None, other causes end the job.
        never_on: These causes end the job.
        delay_s: Seconds before the first of restarts in a row; it doubles with each. 0: none.
        window_s: Only restarts of the last seconds count; None: all of the job's.
        fuse: Attempts in a row that die at their start of one cause and end the job; 0: any number.
        stop_timeout_s: Seconds that workers of a group that is to be restarted have between SIGTERM
            and SIGKILL; None: as many as at the end of the job.
    """

    only_on: Causes | None = None
    never_on: Causes = Causes()
    delay_s: float = 0.0
    window_s: float | None = None
    fuse: int = 0
    stop_timeout_s: float | None = None


class Restart(NamedTuple):
    """The workers are started again.

    Args:
        delay_s: After how many seconds.
        doubt: Why that looks hopeless, if it does.
    """

    delay_s: float = 0.0
    doubt: str = ""


class GiveUp(NamedTuple):
    """The job has failed.

    Args:
        reason: Why no restart follows, as a sentence for people.
        is_usual: Whether just the budget of the whole job is spent.
    """

    reason: str
    is_usual: bool = False


def decide(
    rules: RestartRules, max_restarts: int, deaths: Sequence[Death], restarts: int, chance: float
) -> Restart | GiveUp:
    """Decide whether a failed attempt is followed by another one.

    Args:
        rules: What the user wants.
        max_restarts: How many restarts the job may spend, in the window if there is one.
        deaths: How the attempts that this node knows of have ended; the last one is the question.
        restarts: How many restarts the whole job has spent.
        chance: A random number from 0 to 1: it spreads the delays of many jobs.
    """
    last = deaths[-1]
    if last.is_of_syntax:
        return GiveUp("the script has a syntax error, which no restart changes")
    if rules.never_on.include(last) and rules.only_on and rules.only_on.include(last):
        code = f" and exited with code {last.exitcode}" if last.exception else ""
        return GiveUp(
            f"a worker {last}{code}, which --no-restart-on and --restart-on both name: the first "
            "goes before"
        )
    if rules.never_on.include(last):
        return GiveUp(f"a worker {last}, which is not to be restarted (--no-restart-on)")
    if rules.only_on is not None and not rules.only_on.include(last):
        return GiveUp(f"a worker {last}, which is not among what is to be restarted (--restart-on)")
    in_a_row = _deaths_at_start(deaths)
    if rules.fuse and in_a_row >= rules.fuse:
        return GiveUp(
            f"{in_a_row} attempts in a row have ended within {START_S:g} s of their start by the "
            f"same cause: a worker {last} (--fuse)"
        )
    if _spent(rules, deaths, restarts) >= max_restarts:
        return GiveUp(_words_of_budget(rules, max_restarts), rules.window_s is None)
    doubt = ""
    if in_a_row >= HOPELESS_IN_A_ROW:
        doubt = (
            f"this looks hopeless: it is death {in_a_row} in a row at the start by the same cause"
        )
    return Restart(_delay_s(rules, deaths, chance), doubt)


def _deaths_at_start(deaths: Sequence[Death]) -> int:
    """Return how many attempts in a row, up to the last one, died at their start by one cause."""
    count = 0
    for death in reversed(deaths):
        if death.lived_s >= START_S or not death.is_like(deaths[-1]):
            break
        count += 1
    return count


def _spent(rules: RestartRules, deaths: Sequence[Death], restarts: int) -> int:
    if rules.window_s is None:
        return restarts
    now_s = deaths[-1].at_s
    return sum(now_s - each.at_s <= rules.window_s for each in deaths[:-1])


def _words_of_budget(rules: RestartRules, max_restarts: int) -> str:
    if not max_restarts:
        return "no restart is allowed (--max-restarts)"
    spent = f"{max_restarts} of {max_restarts}"
    if rules.window_s is None:
        return f"restarts spent: {spent} (--max-restarts)"
    return f"restarts spent in {rules.window_s:g} s: {spent} (--restart-window)"


def _delay_s(rules: RestartRules, deaths: Sequence[Death], chance: float) -> float:
    in_a_row = 0
    for death in reversed(deaths):
        in_a_row += 1
        if death.lived_s >= STEADY_S:
            break
    delay_s = min(rules.delay_s * 2.0 ** min(in_a_row - 1, 64), LONGEST_DELAY_S)
    return delay_s * (1 - _JITTER * chance)
