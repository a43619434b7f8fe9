"""Decides by cause whether a failed attempt is followed by another one: a pure function.

Without options the budget is spent as under torchrun: any failure costs one of ``--max-restarts``.
The node on which a worker failed decides for the job and writes its decision into the verdict, so
that all nodes do the same, whatever each of them knows of earlier attempts.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from ...rendezvous.named_tuple import NamedTuple
from .failure import end_of

START_S = 5.0
"""An attempt that ends sooner has died at its start."""

STEADY_S = 600.0
"""An attempt that lived longer was no failure in a row: delays begin anew after it."""

LONGEST_DELAY_S = 300.0
HOPELESS_IN_A_ROW = 3

_JITTER = 0.25
_HIGHEST_CODE = 255
_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


class Death(NamedTuple):
    """How one attempt ended.

    Args:
        exitcode: The root cause's exit code; -n where signal n killed it.
        exception: Full name of the exception type, as ``builtins.ImportError``; may be empty.
        lived_s: Seconds from the start of its workers.
        at_s: When, in seconds of a monotonic clock.
        is_of_syntax: Whether the script itself could not be compiled.
    """

    exitcode: int
    exception: str
    lived_s: float
    at_s: float
    is_of_syntax: bool = False

    def is_like(self, other: Death) -> bool:
        """Return whether two attempts died of the same cause."""
        return (self.exitcode, self.exception) == (other.exitcode, other.exception)

    def __str__(self) -> str:
        name = self.exception.removeprefix("builtins.")
        return f"raised {name}" if name else end_of(self.exitcode)


class Causes(NamedTuple):
    """Some causes of death, as ``--restart-on`` and ``--no-restart-on`` name them.

    Args:
        codes: Exit codes, as ranges from the first to the last one; -n for signal n.
        exceptions: Names of exception types, with or without their modules.
    """

    codes: tuple[tuple[int, int], ...] = ()
    exceptions: tuple[str, ...] = ()

    def include(self, death: Death) -> bool:
        """Return whether an attempt died of one of them."""
        if any(first <= death.exitcode <= last for first, last in self.codes):
            return True
        names = (death.exception, death.exception.rpartition(".")[2])
        return bool(death.exception) and any(name in self.exceptions for name in names)

    @staticmethod
    def parse(text: str) -> Causes:
        """Return the causes of a list such as ``2,64-113,SIGSEGV,ImportError``.

        Raises:
            ValueError: A part of it is no cause; the message says what would be one.
        """
        codes, exceptions = [], []
        for part in (each.strip() for each in text.split(",") if text.strip()):
            if not part:
                raise ValueError("there is nothing between two commas")
            if (found := _codes_of(part)) is not None:
                codes.append(found)
            elif part.upper().startswith("SIG") and part.isalnum():
                codes.append(_signal_of(part.upper()))
            elif _NAME.fullmatch(part):
                exceptions.append(part)
            else:
                raise ValueError(
                    f"{part!r} is neither an exit code (1 to 255), nor a range (64-113), nor a "
                    "signal (SIGSEGV), nor the name of an exception (ImportError)"
                )
        return Causes(tuple(codes), tuple(exceptions))


def _codes_of(part: str) -> tuple[int, int] | None:
    ends = [end.strip() for end in part.split("-")]
    if not all(end.isascii() and end.isdigit() for end in ends) or len(ends) > 2:  # noqa: PLR2004
        return None
    first, last = int(ends[0]), int(ends[-1])
    if not (1 <= first <= _HIGHEST_CODE and 1 <= last <= _HIGHEST_CODE):
        raise ValueError(f"exit codes of failures are 1 to {_HIGHEST_CODE}, and {part} is not")
    if first > last:
        raise ValueError(f"a range begins with its lowest code: {last}-{first}")
    return first, last


def _signal_of(name: str) -> tuple[int, int]:
    try:
        number = signal.Signals[name]
    except KeyError:
        raise ValueError(f"{name} is no signal of this system") from None
    return -number, -number


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
