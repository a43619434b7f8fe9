"""The command: from arguments and the environment to what the user gave."""

from __future__ import annotations

import os
import sys

from ...rendezvous.api.parameters import quoted, truth_of
from ..terminal.console import Console
from .arguments import (
    Answer,
    Given,
    Origin,
    Refusal,
    nearest_option,
    said,
    spelling_of,
    variable_of,
)
from .environment import Environment
from .option import Option
from .options import ALL_OPTIONS, COMPLETION, CONFIG, DRY_RUN, FORMAT, HELP, OPTIONS, VERSION
from .tokens import spell_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROJECT_FILE = "pyproject.toml"
# How many workers there are, and on which node: without a value, the job is another one.
_SHAPE = ("nnodes", "nproc_per_node", "node_rank")


class Answered(Exception):
    """``--help`` or its like was given, and has been answered: there is nothing to launch."""


def parse(
    args: list[str],
    environment: Environment,
    *,
    usage: str = "",
    needs_script: bool = True,
) -> tuple[Given, tuple[str, ...]]:
    """Return what the user gave, and a sentence for each abbreviation or misspelt variable.

    Args:
        args: What stands after ``elrun``, or after a verb.
        environment: Where options that are not given get their defaults.
        usage: What ``--help`` shows for the verb.
        needs_script: Whether SCRIPT must be given.

    Raises:
        Refusal: An option or a variable can't be used, or SCRIPT is missing.
        Answered: ``--help``, ``--version`` or ``--print-completion`` was given.
        OSError: The answer to one of these can't be written.
    """
    by_spelling = {spelling: option for option in ALL_OPTIONS for spelling in option.opts}
    spelled = spell_out(args, {each: not option.is_flag for each, option in by_spelling.items()})
    pairs = [(by_spelling[spelling], text) for spelling, text in spelled.options]
    typed = {option.name: text for option, text in pairs if _says_something(option, text)}
    if answer := _answer_to_question(typed, usage):
        Console(sys.stdout).answer(answer)
        raise Answered
    config, source = _config(typed, environment)
    answers: dict[str, Answer] = {}
    refusal: Refusal | None = None
    for option in (*OPTIONS, DRY_RUN, FORMAT):
        # No variable turns a job into a dry run.
        variables = environment if option in OPTIONS else Environment({})
        try:
            answers[option.name] = answer_to(option, typed, variables, config, source)
        except Refusal as refused:
            answers[option.name] = answer_to(option, {}, Environment({}))
            refusal = refusal or refused
    if needs_script and not refusal and not spelled.command:
        refusal = Refusal(
            "SCRIPT is missing; say what to run: elrun [OPTIONS] SCRIPT [ARGS]... "
            "(elrun --help says more)"
        )
    if refusal:
        refusal.given = Given(answers, tuple(spelled.command))
        raise refusal
    notices = (
        *spelled.notices,
        *_empty_numbers(pairs, typed),
        *_misspelt(environment),
        *_taken_from_file(typed, answers, source),
    )
    return Given(answers, tuple(spelled.command)), notices


def _says_something(option: Option, text: str) -> bool:
    return bool(text) or option.is_flag or option.takes_empty


def _empty_numbers(
    pairs: Sequence[tuple[Option, str]], typed: Mapping[str, str]
) -> tuple[str, ...]:
    """Name the options of which a variable that isn't set may have made another job."""
    names = {option.name for option, text in pairs if not text and option.name not in typed}
    return tuple(
        f"{spelling_of(each)} is empty, which counts as not given"
        for each in _SHAPE
        if each in names
    )


def _answer_to_question(typed: Mapping[str, str], usage: str) -> str:
    """Return what is shown instead of a launch, where the user asked for that."""
    if HELP.name in typed and usage:
        return usage
    if HELP.name in typed:
        from .help import help_page  # see its head

        return help_page()
    if VERSION.name in typed:
        from .version import __version__  # rarely

        return f"elrun {__version__}\n"
    if COMPLETION.name in typed:
        from .completion import completion_script  # rarely

        shell = answer_to(COMPLETION, typed, Environment({})).value
        return completion_script(shell)
    return ""


def _config(typed: Mapping[str, str], environment: Environment) -> tuple[Mapping[str, str], str]:
    path = typed.get(CONFIG.name) or environment.default_of(CONFIG.name)
    if path is None and not os.path.exists(PROJECT_FILE):
        return {}, ""
    from .config_file import read_config  # few jobs have a file

    return read_config(path, OPTIONS)


def _taken_from_file(
    typed: Mapping[str, str], answers: Mapping[str, Answer], source: str
) -> tuple[str, ...]:
    """Say what was taken from a file that nobody has typed."""
    taken = [
        said(name, answer.text, Origin.COMMAND_LINE)
        for name, answer in answers.items()
        if answer.origin is Origin.CONFIG and answer.value is not False
    ]
    if not taken or CONFIG.name in typed:
        return ()
    table = "[tool.elrun] of " if source == PROJECT_FILE else ""
    return (f"from {table}{quoted(source)}: {' '.join(taken)}",)


def answer_to(
    option: Option,
    typed: Mapping[str, str],
    environment: Environment,
    config: Mapping[str, str] | None = None,
    source: str = "",
) -> Answer:
    """Return what an option is set to.

    Args:
        typed: The text of each option that was typed, by name.
        environment: Where its default may stand.
        config: The text of each option that a file gives, by name.

    Raises:
        Refusal: Its text can't be used.
    """
    name = option.name
    text, origin = option.default, Origin.DEFAULT
    if name in typed:
        text, origin = typed[name], Origin.COMMAND_LINE
    elif variable := environment.default_of(name):
        text, origin = variable, Origin.ENVIRONMENT
    elif config and name in config:
        text, origin = config[name], Origin.CONFIG
    source = source if origin is Origin.CONFIG else ""
    if option.parse is None:
        is_set = origin is Origin.COMMAND_LINE or bool(text and _truth(name, text))
        return Answer(is_set, origin, None, source)
    if text is None:
        return Answer(None, origin)
    try:
        return Answer(option.parse(text), origin, text, source)
    except ValueError as error:
        raise Refusal(f"{said(name, text, origin, source)}: {error}") from error


def _misspelt(environment: Environment) -> tuple[str, ...]:
    """Name the variables that are nearly an option's; others may be somebody else's."""
    known = {variable_of(option.name): option.name for option in OPTIONS}
    unknown = [each for each in environment.variables if each.startswith("PET_")]
    names = list(known.values())
    nearest = {
        each: nearest_option(each.removeprefix("PET_").lower(), names)
        for each in unknown
        if each not in known
    }
    return tuple(
        f"{quoted(each)} has no effect; did you mean {variable_of(match)}?"
        for each, match in nearest.items()
        if match
    )


def _truth(name: str, text: str) -> bool:
    truth = truth_of(text)
    if truth is None:
        raise Refusal(
            f"{variable_of(name)}={quoted(text)}: {spelling_of(name)} is a flag; give 1 or 0"
        )
    return truth
