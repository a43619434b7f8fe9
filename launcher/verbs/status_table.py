"""Shows the state of a job on a terminal: once, or live."""

from __future__ import annotations

from typing import TYPE_CHECKING

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


def show(overview: Overview, console: Console) -> None:
    """Show the state of a job once."""
    _console_for(console).print(_drawn(overview, None))


def show_live(overviews: Iterable[Overview], console: Console) -> None:
    """Show states of a job one after the other, each in the place of the one before.

    Args:
        overviews: The states; the next one is taken when it is time to show it.
        console: Where it is shown.
    """
    rich = _console_for(console)
    with Live(console=rich, auto_refresh=False, vertical_overflow="crop") as live:
        for overview in overviews:
            live.update(_drawn(overview, rich.size.height - 2), refresh=True)


def _console_for(console: Console) -> RichConsole:
    return RichConsole(file=console.stream, highlight=False)


def _drawn(overview: Overview, most_lines: int | None) -> Group:
    parts = [
        Text(printable(line), "bold" if n == 0 else "")
        for n, line in enumerate(headlines(overview.facts))
    ]
    nodes, ranks = list(overview.nodes), list(overview.ranks)
    left = None if most_lines is None else max(1, most_lines - len(parts) - len(nodes) - 4)
    more = 0 if left is None else len(ranks) - left
    group: list[Text | Table] = [*parts]
    if nodes:
        group += [Text(), _table(NODE_HEAD, [node_cells(each) for each in nodes])]
    if ranks:
        shown = ranks if more <= 0 else ranks[:left]
        group += [Text(), _table(RANK_HEAD, [rank_cells(each) for each in shown])]
    if more > 0:
        group.append(Text(f"and {more} more ranks: the terminal is too low", "italic"))
    group += [Text(printable(f"note: {note}"), "italic") for note in overview.notes]
    return Group(*group)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in head:
        is_last = title == head[-1]
        table.add_column(title, no_wrap=True, overflow="ellipsis", ratio=1 if is_last else None)
    for row in rows:
        table.add_row(*(Text(printable(cell), _style(cell)) for cell in row))
    return table


def _style(cell: str) -> str:
    return "bold red" if cell.startswith(_FAILED) else _STYLES.get(cell, "")
