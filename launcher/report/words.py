"""Times, sizes and ends of a run as people read them."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from datetime import datetime, timezone
from itertools import groupby

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024.0
_LATEST_S = float(1 << 33)  # the year 2242; a report may be anybody's
_TENTHS_BELOW_S, _FRACTIONS_BELOW = 10, 100
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400

_STEPS = {
    "rejoin": "the nodes meet again",
    "finish": "the job ends",
    "fail": "the job ends",
    "leave": "this node leaves",
}


def as_iso(at: float) -> str:
    """Return a moment as programs read it."""
    return _moment(at).isoformat(timespec="milliseconds")


def what_follows(then: str) -> str:
    """Return what an agent does next, as people say it.

    Args:
        then: As the agent's report has it: "fail", "restart"; "" if it has nothing.
    """
    return _STEPS.get(then, then)


def as_clock(at: float) -> str:
    """Return a moment as people read it, in UTC."""
    return _moment(at).strftime("%Y-%m-%d %H:%M:%S")


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(min(max(at, 0.0), _LATEST_S), timezone.utc)


def as_duration(seconds: float) -> str:
    """Return a time as people say it: ``2 h 5 min``."""
    whole = round(seconds)
    if seconds < _TENTHS_BELOW_S:
        return f"{max(0.0, seconds):.1f} s"
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S} s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S} min"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S} h"


def as_size(size: float) -> str:
    """Return a number of bytes as people read it: ``1.5 GiB``."""
    for unit in _UNITS[:-1]:
        if abs(size) < _STEP:
            return f"{size:.3g} {unit}" if size < _FRACTIONS_BELOW else f"{size:.0f} {unit}"
        size /= _STEP
    return f"{size:.3g} {_UNITS[-1]}"


def counted(number: int, noun: str) -> str:
    """Return how many there are: ``1 rank``, ``2 ranks``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def as_percent(value: float) -> str:
    """Return a share of one CPU: ``98 %``."""
    return f"{value:.0f} %"


def as_exit(code: int | None) -> str:
    """Return an exit code, -n for signal n, as people know it."""
    if code is None:
        return ""
    if code >= 0:
        return str(code)
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def spans(numbers: Sequence[int]) -> str:
    """Return numbers in order as people write them: ``0-6, 9``."""
    found = []
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        found.append(f"{members[0]}-{members[-1]}" if len(members) > 1 else str(members[0]))
    return ", ".join(found)
