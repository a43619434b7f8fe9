"""Regular expressions from users, as far as one can be compared with a line in bounded time.

Python's ``re`` holds the interpreter while it compares: an expression that takes for ever would
keep elrun from hearing a signal.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterable
from typing import Any

if sys.version_info >= (3, 11):
    from re import _parser as parser  # type: ignore[attr-defined]
else:
    import sre_parse as parser

_MANY = 100
_REPEATS = ("MAX_REPEAT", "MIN_REPEAT")


def check_pattern(text: str) -> None:
    """Make sure of a regular expression.

    Raises:
        ValueError: It is none, or its repeats are nested: each way to part a line between the inner
            and the outer one may be tried, and their number doubles with each character.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of syntax that may come one day
            re.compile(text)
            tree = parser.parse(text)
    except (re.error, OverflowError, RecursionError) as error:
        reason = str(error) or "it is nested too deeply"
        raise ValueError(f"give a regular expression, as of Python's re: {reason}") from error
    if _has_nested_repeats(tree, is_repeated=False):
        raise ValueError(
            "a repeat within a repeat, as in (a+)+, may take for ever to compare; write it with one"
        )


def _has_nested_repeats(tree: Iterable[tuple[Any, Any]], *, is_repeated: bool) -> bool:
    for operation, argument in tree:
        is_many = str(operation) in _REPEATS and argument[1] >= _MANY
        if is_many and is_repeated:
            return True
        for part in _parts_of(argument):
            if _has_nested_repeats(part, is_repeated=is_repeated or is_many):
                return True
    return False


def _parts_of(argument: Any) -> Iterable[Any]:
    """Return the expressions within the argument of an operation."""
    if isinstance(argument, parser.SubPattern):
        yield argument
    elif isinstance(argument, (list, tuple)):
        for each in argument:
            yield from _parts_of(each)
