"""The ranks that a verb is to show: ``--rank 3``, or several: ``--rank 0,3-5``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from ..report.words import spans

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

_SPAN = re.compile(r"([0-9]{1,9})(?:\s*-\s*([0-9]{1,9}))?", re.ASCII)


def parse_ranks(text: str) -> tuple[range, ...]:
    """Return the ranges of a text, in which numbers and spans stand between commas.

    Raises:
        click.BadParameter: A part of it is neither a number nor a span.
    """
    found = []
    for part in text.split(","):
        span = _SPAN.fullmatch(part.strip())
        first, last = (int(span[1]), int(span[2] or span[1])) if span else (0, -1)
        if first > last:
            raise click.BadParameter(f"{part!r} is no rank: give one, as 3, or several: 0,3-5")
        found.append(range(first, last + 1))
    return tuple(found)


rank_option = click.option(
    "--rank",
    "ranks",
    type=parse_ranks,
    metavar="RANKS",
    multiple=True,
    help="Only these: 3, or 0,3-5.",
)
"""Gives a verb its ``--rank``."""


class WantedRanks:
    """Which ranks are to be shown.

    Args:
        given: What each ``--rank`` has given; none: all ranks are wanted.
    """

    def __init__(self, given: Iterable[Sequence[range]] = ()) -> None:
        self._spans = [span for spans_of_option in given for span in spans_of_option]

    def __contains__(self, rank: int) -> bool:
        return not self._spans or any(rank in span for span in self._spans)

    def absent_from(self, known: Collection[int]) -> str:
        """Return the ranks that are wanted and not there, such as ``rank 9``; "" if none is.

        Args:
            known: The ranks that are there; of a span one is enough.
        """
        absent = [span for span in self._spans if not any(rank in span for rank in known)]
        if not absent:
            return ""
        parts = [str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in absent]
        is_one = len(absent) == 1 and len(absent[0]) == 1
        return f"{'rank' if is_one else 'ranks'} {', '.join(parts)}"


def known_ranks(known: Collection[int]) -> str:
    """Return the ranks that are there, in words."""
    if not known:
        return "no rank"
    return f"{'rank' if len(known) == 1 else 'ranks'} {spans(sorted(known))}"
