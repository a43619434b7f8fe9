"""A check of ``elrun doctor``: one value for the table, the JSON and the exit code."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator

from ...rendezvous.named_tuple import NamedTuple
from ...rendezvous.threads import call_in_time

CHECK_TIMEOUT_S = 20.0
"""How long one look may take: a name server or a file system may not answer at all."""


class Verdict(enum.Enum):
    """What a check has found."""

    OK = "ok"
    WARNING = "warning"
    """The job may run, perhaps not as it is meant."""
    FAILED = "failed"
    """The job will not run."""


class Check(NamedTuple):
    """One thing that was looked at.

    Args:
        name: What was looked at, in a word or two.
        found: What was found, in a line.
        advice: What to do; empty if all is well.
    """

    name: str
    verdict: Verdict
    found: str
    advice: str = ""


Look = Callable[[], Iterator[Check]]
"""Looks at something, and yields what it finds."""


def ok(name: str, found: str) -> Check:
    """Return a check that found all well."""
    return Check(name, Verdict.OK, found)


def warning(name: str, found: str, advice: str) -> Check:
    """Return a check that found what may be wrong."""
    return Check(name, Verdict.WARNING, found, advice)


def failed(name: str, found: str, advice: str) -> Check:
    """Return a check that found what keeps the job from running."""
    return Check(name, Verdict.FAILED, found, advice)


def outcome_of(name: str, look: Look, timeout_s: float = CHECK_TIMEOUT_S) -> list[Check]:
    """Return what a look finds; a look that fails or takes too long is a finding as well.

    Args:
        name: What is looked at, for a look that gets nowhere.
        timeout_s: How long it may take.
    """
    try:
        return call_in_time(lambda: list(look()), timeout_s, "elrun-check")
    except TimeoutError:
        found = f"there was no answer for {timeout_s:g} s"
        return [warning(name, found, "see which file system or name server does not answer")]
    except Exception as error:  # noqa: BLE001  what can't be looked at must not hide the rest
        return [warning(name, f"it can't be looked at: {error!r}", "look at it by hand")]
