"""What the user gave elrun, and how a piece of it is refused."""

from __future__ import annotations

import enum
from types import MappingProxyType

from ...rendezvous.api.parameters import quoted
from ...rendezvous.errors import UsageError
from ...rendezvous.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

_SECRETS = ("rdzv_conf",)
_HIDDEN = "(not shown)"
_LETTERS_PER_SLIP = 4
_SHORTEST_BEGINNING = 5


class Refusal(UsageError):
    """Something that the user gave can't be used; the text is one sentence for the user."""

    given: Given | None = None
    """What else the user gave, where that is known: where the nodes meet, and who is told."""


class Origin(enum.Enum):
    """Where the value of an option comes from."""

    COMMAND_LINE = "command line"
    ENVIRONMENT = "environment"
    CONFIG = "config file"
    SCHEDULER = "scheduler"
    DEFAULT = "default"


class Answer(NamedTuple):
    """What an option has been set to.

    Args:
        value: The value.
        origin: Where it comes from.
        text: The text that was given for it; a flag has none.
        source: The file that it comes from, if it comes from one.
    """

    value: Any
    origin: Origin
    text: str | None = None
    source: str = ""

    @property
    def is_given(self) -> bool:
        """Whether the user gave the option: typed, in the environment, or in a file."""
        return self.origin is not Origin.DEFAULT


class Given:
    """What the user gave.

    Args:
        answers: Every option's, by its name with underscores.
        command: SCRIPT and its arguments; not empty.
    """

    __slots__ = ("answers", "command")

    def __init__(self, answers: Mapping[str, Answer], command: tuple[str, ...]) -> None:
        self.answers = answers
        self.command = command

    def __getitem__(self, name: str) -> Any:
        return self.answers[name].value

    def is_given(self, name: str) -> bool:
        """Return whether the user gave the option: typed, in the environment, or in a file."""
        return self.answers[name].is_given

    def is_typed(self, name: str) -> bool:
        """Return whether the option stands on the command line."""
        return self.answers[name].origin is Origin.COMMAND_LINE

    def origins(self) -> MappingProxyType[str, Mapping[str, str | None]]:
        """Return the options that were given: value, origin and source by name, without secrets."""
        return MappingProxyType(
            {
                name: {
                    "value": _HIDDEN if name in _SECRETS else answer.text,
                    "origin": answer.origin.value,
                    "source": variable_of(name)
                    if answer.origin is Origin.ENVIRONMENT
                    else answer.source,
                }
                for name, answer in self.answers.items()
                if answer.is_given
            }
        )

    def said(self, name: str) -> str:
        """Return the option and its value as the user would recognise them."""
        answer = self.answers[name]
        return said(name, answer.text, answer.origin, answer.source)


def said(name: str, text: str | None, origin: Origin, source: str = "") -> str:
    """Return an option as the user gave it: ``--nnodes 2``, ``PET_NNODES=2``, or a bare flag."""
    if origin is Origin.CONFIG:
        value = "true" if text is None else quoted(text)
        return f"{name.replace('_', '-')} = {value} in {quoted(source)}"
    if origin is Origin.ENVIRONMENT:
        return f"{variable_of(name)}={quoted('1' if text is None else text)}"
    return spelling_of(name) if text is None else f"{spelling_of(name)} {quoted(text)}"


def spelling_of(name: str) -> str:
    """Return how an option is spelt: ``--nproc-per-node``."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """Return the variable that an option takes its default from: ``PET_NPROC_PER_NODE``."""
    return "PET_" + name.upper().replace("-", "_")


def nearest(word: str, known: Collection[str]) -> str:
    """Return ``; did you mean X?`` for the known word that is nearest, or nothing."""
    match = nearest_word(word, known)
    return f"; did you mean {match}?" if match else ""


def nearest_word(word: str, known: Collection[str]) -> str:
    """Return the known word that differs by a slip or two of the fingers, or nothing.

    A word that merely looks alike is another thing that the user has in mind: a guess would send
    them to an option that does something else.
    """
    bare = word.strip("-")
    allowed = min(len(bare) - 1, max(1, len(bare) // _LETTERS_PER_SLIP))
    slips = {
        each: _slips(bare, each.strip("-"))
        for each in known
        if abs(len(bare) - len(each.strip("-"))) <= allowed  # a word may have any length
    }
    match = min(slips, key=lambda each: slips[each], default="")
    return match if match and slips[match] <= allowed else ""


def nearest_option(word: str, known: Collection[str]) -> str:
    """Return the option that a word means but for a slip or two, or nothing.

    A beginning counts, too: ``--npproc`` is near that of ``--nproc-per-node`` and of no other.
    """
    if match := nearest_word(word, known):
        return match
    bare = word.strip("-")
    if len(bare) < _SHORTEST_BEGINNING:
        return ""
    lengths = range(len(bare) - 1, len(bare) + 2)
    begun = [
        each
        for each in known
        if len(each.strip("-")) >= lengths.start
        and min(_slips(bare, each.strip("-")[:length]) for length in lengths) <= 1
    ]
    return begun[0] if len(begun) == 1 else ""


def _slips(typed: str, meant: str) -> int:
    """Return how many letters are wrong, missing, too many, or in each other's place."""
    before: list[int] = []
    row = list(range(len(meant) + 1))
    for i, letter in enumerate(typed):
        last, before, row = before, row, [i + 1]
        for j, other in enumerate(meant):
            cost = min(before[j] + (letter != other), before[j + 1] + 1, row[j] + 1)
            if i and j and (letter, other) == (meant[j - 1], typed[i - 1]):
                cost = min(cost, last[j - 1] + 1)
            row.append(cost)
    return row[-1]


def listed(words: Collection[str]) -> str:
    """Return words as a list in a sentence: ``a, b or c``."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
