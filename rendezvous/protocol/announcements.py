"""When people are told, and told again, of a wait that goes on: pure decisions."""

from __future__ import annotations

from dataclasses import dataclass

_REMINDERS_S = (30.0, 60.0, 120.0, 300.0)
# What changes together, or goes to and fro, is told of together.
_APART_S = 5.0
# A wait of an hour is looked at more seldom than one of seconds.
_LOOKS_PER_WAIT = 10


@dataclass(frozen=True, slots=True)
class Announcement:
    """What people were told.

    Args:
        what: The words.
        after_s: For how long the wait had gone on.
    """

    what: str
    after_s: float


def is_worth_telling(
    what: str, waited_s: float, last: Announcement | None, *, first_s: float
) -> bool:
    """Return whether people should be told how a wait stands.

    Once it has gone on for a while; when there is something new; and again after 30 s, 1, 2 and
    5 minutes, in case somebody has just begun to look.

    Args:
        what: The words; empty: there are none.
        waited_s: For how long the wait has gone on.
        last: What people were told last, if anything.
        first_s: How long a wait may be that nobody has to know of.
    """
    if not what or waited_s < first_s:
        return False
    if last is None:
        return True
    if what != last.what and waited_s >= last.after_s + _APART_S:
        return True
    return any(last.after_s < reminder_s <= waited_s for reminder_s in _REMINDERS_S)


def next_look_s(waited_s: float, *, first_s: float) -> float:
    """Return after how long a wait should be looked at next.

    Args:
        waited_s: For how long it has gone on.
        first_s: See ``is_worth_telling``.
    """
    if waited_s < first_s:
        return first_s
    due_s = waited_s + max(_APART_S, waited_s / _LOOKS_PER_WAIT)
    return min(due_s, *(each for each in (*_REMINDERS_S, due_s) if each > waited_s))
