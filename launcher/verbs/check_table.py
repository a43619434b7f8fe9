"""Shows checks: as a table on a terminal, in columns elsewhere, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ..terminal.console import Console, printable
from .check import Check, Verdict

_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.FAILED: "bold red"}


def as_json(checks: Sequence[Check]) -> str:
    """Return the checks as one JSON object, with the verdict on all of them."""
    rows = [{**check._asdict(), "verdict": check.verdict.value} for check in checks]
    return json.dumps({"version": 1, "verdict": verdict_on(checks).value, "checks": rows}, indent=2)


def verdict_on(checks: Sequence[Check]) -> Verdict:
    """Return the worst of the verdicts."""
    return max((check.verdict for check in checks), key=list(Verdict).index, default=Verdict.OK)


def as_lines(check: Check) -> str:
    """Return a check as lines for a pipe: one, and another one with the advice."""
    head = f"{check.verdict.value:8}{check.name}: {check.found}\n"
    return printable(head + (f"{'':8}  {check.advice}\n" if check.advice else ""))


def show_table(checks: Sequence[Check], console: Console) -> None:
    """Show the checks as a table on a terminal."""
    from rich.table import Table  # not in a pipe
    from rich.text import Text

    from ..terminal.screen import screen_on

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_column(overflow="fold")
    for check in checks:
        found = Text(printable(check.found))
        if check.advice:
            found.append(f"\n{printable(check.advice)}", "italic")
        style = _STYLES[check.verdict]
        table.add_row(Text(check.verdict.value, style), Text(printable(check.name)), found)
    screen_on(console.stream).print(table)
