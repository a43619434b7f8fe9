"""What an option is: its spellings, its place in ``--help``, and how its text becomes a value."""

from __future__ import annotations

from ...rendezvous.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Option(NamedTuple):
    """An option of the command line.

    Args:
        opts: Its spellings, the long one last.
        group: The title that it stands under in ``--help``.
        help: Its line there.
        metavar: What its value is called there.
        parse: Turns text into the value, or says by a ``ValueError`` what would be right; None for
            a flag, which takes no value.
        default: The text that stands for it where none is given.
        takes_empty: Whether "" is a value; of the other options it says that none is given, as
            where a script passes on a variable that isn't set.
        kind: What turns its text into what a program finds that parses options itself.
    """

    opts: tuple[str, ...]
    group: str
    help: str
    metavar: str = ""
    parse: Callable[[str], Any] | None = None
    default: str | None = None
    takes_empty: bool = False
    kind: Callable[[str], Any] = str

    @property
    def name(self) -> str:
        """Its name in Python: ``nproc_per_node``."""
        return self.opts[-1].removeprefix("--").replace("-", "_")

    @property
    def is_flag(self) -> bool:
        """Whether it takes no value."""
        return self.parse is None


def value(
    spellings: str,
    metavar: str,
    group: str,
    parse: Callable[[str], Any],
    default: str | None,
    description: str,
    *,
    takes_empty: bool = False,
    kind: Callable[[str], Any] = str,
) -> Option:
    """Return an option that takes a value; see ``Option``.

    Args:
        spellings: Its names, separated by spaces.
        metavar: What its value is called in ``--help``.
        group: The title that it stands under.
        parse: Turns text into the value.
        default: The text that stands for it where none is given.
        description: Its line in ``--help``.
        takes_empty: Whether "" is a value.
        kind: What it is to a program that parses options itself.
    """
    opts = tuple(spellings.split())
    return Option(opts, group, description, metavar, parse, default, takes_empty, kind)


def flag(spellings: str, group: str, description: str) -> Option:
    """Return an option without a value; see ``value``."""
    return Option(tuple(spellings.split()), group, description)
