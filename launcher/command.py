"""The command: from arguments and the environment to what the user gave."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from .config import Environment
from .console import Console
from .given import (
    Answer,
    Given,
    Origin,
    Refusal,
    nearest_word,
    quoted,
    said,
    spelling_of,
    variable_of,
)
from .option import Option
from .options import ALL_OPTIONS, HELP, OPTIONS, VERSION
from .spelling import spell_out

_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"0", "false", "no", "off"})


class Answered(Exception):  # noqa: N818  nothing went wrong
    """``--help`` or ``--version`` was given, and has been answered: there is nothing to launch."""


def parse(args: list[str], environment: Environment) -> tuple[Given, tuple[str, ...]]:
    """Return what the user gave, and a sentence for each abbreviation or misspelt variable.

    Args:
        args: What stands after ``elrun``.
        environment: Where options that are not given get their defaults.

    Raises:
        Refusal: An option or a variable can't be used, or SCRIPT is missing.
        Answered: ``--help`` or ``--version`` was given.
    """
    by_spelling = {spelling: option for option in ALL_OPTIONS for spelling in option.opts}
    spelled = spell_out(args, {each: not option.is_flag for each, option in by_spelling.items()})
    typed = {by_spelling[spelling].name: text for spelling, text in spelled.options}
    if HELP.name in typed:
        from .help import help_page  # noqa: PLC0415  see its head

        Console(sys.stdout).write(help_page())
        raise Answered
    if VERSION.name in typed:
        Console(sys.stdout).write(f"elrun {_version()}\n")
        raise Answered
    answers = {option.name: _answer(option, typed, environment) for option in OPTIONS}
    if not spelled.command:
        raise Refusal(
            "SCRIPT is missing; say what to run: elrun [OPTIONS] SCRIPT [ARGS]... "
            "(elrun --help says more)"
        )
    notices = (*spelled.notices, *_misspelt(environment))
    return Given(answers, tuple(spelled.command)), notices


def _answer(option: Option, typed: Mapping[str, str], environment: Environment) -> Answer:
    name = option.name
    text, origin = option.default, Origin.DEFAULT
    if name in typed:
        text, origin = typed[name], Origin.COMMAND_LINE
    elif variable := environment.default_of(name):
        text, origin = variable, Origin.ENVIRONMENT
    if option.parse is None:
        is_set = origin is Origin.COMMAND_LINE or bool(text and _truth(name, text))
        return Answer(is_set, origin)
    if text is None:
        return Answer(None, origin)
    try:
        return Answer(option.parse(text), origin, text)
    except ValueError as error:
        raise Refusal(f"{said(name, text, origin)}: {error}") from error


def _misspelt(environment: Environment) -> tuple[str, ...]:
    """Name the variables that are nearly an option's; others may be somebody else's."""
    known = {variable_of(option.name): option.name for option in OPTIONS}
    unknown = [each for each in environment.variables if each.startswith("PET_")]
    names = list(known.values())
    nearest = {
        each: nearest_word(each.removeprefix("PET_").lower(), names)
        for each in unknown
        if each not in known
    }
    return tuple(
        f"{quoted(each)} has no effect; did you mean {variable_of(match)}?"
        for each, match in nearest.items()
        if match
    )


def _truth(name: str, text: str) -> bool:
    word = text.strip().lower()
    if word not in _YES | _NO:
        raise Refusal(
            f"{variable_of(name)}={quoted(text)}: {spelling_of(name)} is a flag; give 1 or 0"
        )
    return word in _YES


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  rarely

    try:
        return version("elrun")
    except PackageNotFoundError:
        return "from a source tree that is not installed"
