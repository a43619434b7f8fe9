"""Shows the state of a job on a terminal: once, or live."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..terminal.console import Console, printable
from ..terminal.screen import screen_on
from .status_text import headlines, silences, tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .view import Overview, Rank

_STYLES = {"running": "green", "stopped": "bold red", "disk-sleep": "red", "zombie": "red"}
_FAILED = ("failed", "killed", "unhealthy")
_LEFT_OUT_FIRST = ("MEMORY", "CPU", "GPU MEMORY", "PRINTED", "PID", "HOST", "GPU")
"""The columns that a narrow terminal does not show, in this order."""

_LAST_COLUMN_CHARS = 20
_GAP = 2


def show(overview: Overview, console: Console) -> None:
    """Show the state of a job once."""
    rich = screen_on(console.stream)
    rich.print(_drawn(overview, rich.width, None))


def show_live(overviews: Iterable[Overview], console: Console) -> None:
    """Show states of a job one after the other, each in the place of the one before.

    Args:
        overviews: The states; the next one is taken when it is time to show it.
    """
    rich = screen_on(console.stream)
    with Live(console=rich, auto_refresh=False, vertical_overflow="crop") as live:
        for overview in overviews:
            live.update(_drawn(overview, rich.width, rich.size.height - 2), refresh=True)


def _drawn(overview: Overview, width: int, most_lines: int | None) -> Group:
    parts: list[Text | Table] = [
        Text(printable(line), "bold" if n == 0 else "")
        for n, line in enumerate(headlines(overview.facts))
    ]
    parts += [Text(printable(line), "bold yellow") for line in silences(overview)]
    ranks = list(overview.ranks)
    left = len(ranks)
    if most_lines is not None:
        left = max(1, most_lines - len(parts) - len(overview.nodes) - 4)
    more = len(ranks) - left
    for head, *rows in tables(overview.nodes, ranks if more <= 0 else _worth_seeing(ranks, left)):
        parts += [Text(), _table(head, rows, width)]
    if more > 0:
        what = "those that have failed or are silent come first where not all have room"
        parts.append(Text(f"and {more} more ranks: {what}", "italic"))
    parts += [Text(printable(f"note: {note}"), "italic") for note in overview.notes]
    return Group(*parts)


def _worth_seeing(ranks: Sequence[Rank], most: int) -> list[Rank]:
    """Return some of the ranks in their order: first those that failed, then the silent ones."""
    by_worth = sorted(
        ranks, key=lambda rank: (not rank.state.startswith(_FAILED), -(rank.silent_s or 0.0))
    )
    return sorted(by_worth[:most], key=lambda rank: rank.rank)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Table:
    """Return the rows below their head; the last column takes what room the others leave."""
    texts = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(head, *texts, strict=True)]
    shown = _fitting(head, widths, width)
    table = Table(box=None, pad_edge=False)
    for at in shown[:-1]:
        table.add_column(head[at], no_wrap=True, overflow="ellipsis")
    left = width - sum(widths[at] + _GAP for at in shown[:-1])
    table.add_column(head[-1], no_wrap=True, overflow="ellipsis", max_width=max(1, left))
    for row in texts:
        table.add_row(*(Text(row[at], _style(row[at])) for at in shown))
    return table


def _fitting(head: Sequence[str], widths: Sequence[int], width: int) -> list[int]:
    """Return the numbers of the columns for which there is room beside the last one."""
    shown = list(range(len(head)))
    wanted = min(widths[-1], _LAST_COLUMN_CHARS)
    for title in _LEFT_OUT_FIRST:
        if sum(widths[at] + _GAP for at in shown[:-1]) + wanted <= width:
            break
        if title in head[:-1]:
            shown.remove(head.index(title))
    return shown


def _style(cell: str) -> str:
    return "bold red" if cell.startswith(_FAILED) else _STYLES.get(cell, "")
