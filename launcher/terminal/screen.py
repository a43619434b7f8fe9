"""What rich draws on: a stream, and a width into which text fits."""

from __future__ import annotations

from typing import Any, TextIO

from rich.console import Console as RichConsole

from ...agent.system.environ import inherited_environment

_VARIABLE = "COLUMNS"
_MOST_DIGITS = 9


def columns_named() -> int:
    """Return how many columns the variable COLUMNS names; 0: it is not set, or of no use.

    Some terminals and containers set it to 0, and rich would show nothing in so many columns.
    """
    text = inherited_environment().get(_VARIABLE, "")
    is_number = text.isascii() and text.isdigit()
    return int(text[:_MOST_DIGITS]) if is_number else 0


def screen_on(stream: TextIO | None, width: int | None = None, **settings: Any) -> RichConsole:
    """Return what draws on a stream.

    Args:
        width: Columns to use; by default those that COLUMNS names, or those of the terminal.
        **settings: What else rich is told.
    """
    environment = dict(inherited_environment())
    if not columns_named():
        environment.pop(_VARIABLE, None)
    return RichConsole(file=stream, width=width, highlight=False, _environ=environment, **settings)
