"""Puts the lines of several ranks in one order: that of the times with which they begin."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator
from typing import TypeVar

_Source = TypeVar("_Source")

_TIME = re.compile(r"\W?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?|\d\d:\d\d:\d\d(?:[.,]\d+)?)")


def in_order_of_time(
    logs: Iterable[tuple[_Source, Iterable[str]]],
) -> Iterator[tuple[_Source, str]]:
    """Yield the lines of all logs, each with its source, the earliest first.

    A line without a time belongs to the one before it. Lines without any time before them come
    first. What one log has stays in its order.

    Args:
        logs: The lines of each source.
    """
    known = list(logs)
    timed = [_numbered(at, lines) for at, (_, lines) in enumerate(known)]
    for _, at, _, line in heapq.merge(*timed):
        yield known[at][0], line


def _numbered(at: int, lines: Iterable[str]) -> Iterator[tuple[str, int, int, str]]:
    for number, (time, line) in enumerate(_with_times(lines)):
        yield time, at, number, line


def _with_times(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    latest = ""
    for line in lines:
        found = _TIME.match(line)
        if found:  # never back: a log has its order
            latest = max(latest, found[1].replace("T", " ").replace(",", "."))
        yield latest, line
