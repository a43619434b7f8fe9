"""Decides when to log a line about a long wait, and when to log it again."""

from __future__ import annotations

from ..named_tuple import NamedTuple

_REMINDERS_S = (30.0, 60.0, 120.0, 300.0)
# The fewest seconds between two lines: several changes within them make one line.
_APART_S = 5.0
# A long wait is checked less often: a tenth of the time waited so far lies between two checks.
_CHECKS_PER_WAIT = 10


class Announcement(NamedTuple):
    """A line that was logged about a wait.

    Args:
        after_s: How long the wait had lasted then.
    """

    what: str
    after_s: float


def should_announce(
    what: str, waited_s: float, last: Announcement | None, *, first_s: float
) -> bool:
    """Return whether a line about a wait should be logged now.

    A line is logged once the wait has lasted for ``first_s``; when the line has changed; and again
    after 30 s, 1, 2 and 5 minutes, for a person who has just begun to read the log.

    Args:
        what: The line; empty: there is nothing to log.
        first_s: How long a wait may last without a line.
    """
    if not what or waited_s < first_s:
        return False
    if last is None:
        return True
    if what != last.what and waited_s >= last.after_s + _APART_S:
        return True
    return any(last.after_s < reminder_s <= waited_s for reminder_s in _REMINDERS_S)


def next_check_s(waited_s: float, *, first_s: float) -> float:
    """Return how long the wait will have lasted when it should be checked next."""
    if waited_s < first_s:
        return first_s
    due_s = waited_s + max(_APART_S, waited_s / _CHECKS_PER_WAIT)
    return min(due_s, *(each for each in (*_REMINDERS_S, due_s) if each > waited_s))
