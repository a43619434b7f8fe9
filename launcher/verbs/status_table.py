"""Shows the state of a job on a terminal: once, or live."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console as RichConsole
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..terminal.console import Console, printable
from .status_text import NODE_HEAD, RANK_HEAD, headlines, node_cells, rank_cells

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .view import Overview

_STYLES = {"running": "green", "stopped": "bold red", "disk-sleep": "red", "zombie": "red"}
_FAILED = ("failed", "killed", "unhealthy")
_LEFT_OUT_FIRST = ("MEMORY", "CPU", "PRINTED", "PID", "HOST")
"""The columns that a narrow terminal does not show, in this order."""

_LAST_COLUMN_CHARS = 20
_GAP = 2


def show(overview: Overview, console: Console) -> None:
    """Show the state of a job once."""
    rich = _console_for(console)
    rich.print(_drawn(overview, rich.width, None))


def show_live(overviews: Iterable[Overview], console: Console) -> None:
    """Show states of a job one after the other, each in the place of the one before.

    Args:
        overviews: The states; the next one is taken when it is time to show it.
        console: Where it is shown.
    """
    rich = _console_for(console)
    with Live(console=rich, auto_refresh=False, vertical_overflow="crop") as live:
        for overview in overviews:
            live.update(_drawn(overview, rich.width, rich.size.height - 2), refresh=True)


def _console_for(console: Console) -> RichConsole:
    return RichConsole(file=console.stream, highlight=False)


def _drawn(overview: Overview, width: int, most_lines: int | None) -> Group:
    parts = [
        Text(printable(line), "bold" if n == 0 else "")
        for n, line in enumerate(headlines(overview.facts))
    ]
    nodes, ranks = list(overview.nodes), list(overview.ranks)
    left = None if most_lines is None else max(1, most_lines - len(parts) - len(nodes) - 4)
    more = 0 if left is None else len(ranks) - left
    group: list[Text | Table] = [*parts]
    if nodes:
        group += [Text(), _table(NODE_HEAD, [node_cells(each) for each in nodes], width)]
    if ranks:
        shown = ranks if more <= 0 else ranks[:left]
        group += [Text(), _table(RANK_HEAD, [rank_cells(each) for each in shown], width)]
    if more > 0:
        group.append(Text(f"and {more} more ranks: the terminal is too low", "italic"))
    group += [Text(printable(f"note: {note}"), "italic") for note in overview.notes]
    return Group(*group)


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
        if title in head:
            shown.remove(head.index(title))
    return shown


def _style(cell: str) -> str:
    return "bold red" if cell.startswith(_FAILED) else _STYLES.get(cell, "")
