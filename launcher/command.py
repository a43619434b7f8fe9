"""The command as Click sees it: from arguments and the environment to what the user gave."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from itertools import groupby

import click

from .config import Environment
from .console import Console
from .given import Answer, Given, Refusal, quoted, spelling_of, variable_of
from .option_types import NO_BREAK, LaunchOption, origin_of, texts_of
from .options import ABOUT, OPTIONS
from .spelling import spell_out

USAGE = "elrun [OPTIONS] SCRIPT [ARGS]..."

_INTRODUCTION = """\
Run SCRIPT as the workers of a distributed job on this node, keep them running,
and say why the job failed if it does. Each node of the job runs elrun alike.

What follows SCRIPT is passed on to it. PYTHON_EXEC names another interpreter.
Each option can be set in the environment, too: PET_NNODES=2 is --nnodes 2.
"""

_COLUMN = 26
_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"0", "false", "no", "off"})


class LaunchCommand(click.Command):
    """A command whose options are shown in groups."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help, readable at 80 columns."""
        formatter.write(f"Usage: {USAGE}\n\n{_INTRODUCTION}")
        options = [each for each in self.params if isinstance(each, LaunchOption)]
        for group, members in groupby(options, key=lambda option: option.group):
            records = [option.get_help_record(ctx) for option in members]
            rows = [(names.ljust(_COLUMN), text) for names, text in filter(None, records)]
            with formatter.section(group):
                formatter.write_dl(rows, col_max=_COLUMN)


def build_command() -> click.Command:
    """Return the command, with an option for help and one for the version."""
    return LaunchCommand(
        "elrun",
        params=[
            *OPTIONS,
            LaunchOption(
                ["-h", "--help"],
                group=ABOUT,
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_print_help,
                help="Show this and exit.",
            ),
            LaunchOption(
                ["--version"],
                group=ABOUT,
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_print_version,
                help="Show the version and exit.",
            ),
            click.Argument(["command"], nargs=-1, type=click.UNPROCESSED),
        ],
        context_settings={"allow_interspersed_args": False},
        add_help_option=False,
    )


def parse(args: list[str], environment: Environment) -> tuple[Given, tuple[str, ...]]:
    """Return what the user gave, and a sentence for each abbreviation that was understood.

    Args:
        args: What stands after ``elrun``.
        environment: Where options that are not given get their defaults.

    Raises:
        Refusal: An option or a variable can't be used, or SCRIPT is missing.
        click.exceptions.Exit: ``--help`` or ``--version`` was given, and answered.
    """
    command = build_command()
    takes_value = {
        spelling: not option.is_flag
        for option in command.params
        if isinstance(option, LaunchOption)
        for spelling in option.opts
    }
    spelled = spell_out(args, takes_value)
    defaults = _defaults(environment)
    try:
        context = command.make_context("elrun", spelled.args, default_map=defaults)
    except click.ClickException as error:
        raise Refusal(error.format_message()) from error
    if not context.params["command"]:
        raise Refusal(f"SCRIPT is missing; say what to run: {USAGE} (elrun --help says more)")
    texts = texts_of(context)
    answers = {}
    for option in OPTIONS:
        name = option.name or ""
        text = None if option.is_flag else texts.get(name)
        answers[name] = Answer(context.params[name], origin_of(name, context), text)
    return Given(answers, tuple(context.params["command"])), spelled.notices


def _defaults(environment: Environment) -> Mapping[str, object]:
    """Return what ``PET_…`` variables say."""
    defaults: dict[str, object] = {}
    for option in OPTIONS:
        name = option.name or ""
        text = environment.default_of(name)
        if text is not None:
            defaults[name] = _truth(name, text) if option.is_flag else text
    return defaults


def _truth(name: str, text: str) -> bool:
    word = text.strip().lower()
    if word not in _YES | _NO:
        raise Refusal(
            f"{variable_of(name)}={quoted(text)}: {spelling_of(name)} is a flag; give 1 or 0"
        )
    return word in _YES


def _print_help(ctx: click.Context, _option: click.Parameter, is_given: bool) -> None:
    if is_given and not ctx.resilient_parsing:
        _tell(ctx.get_help().replace(NO_BREAK, " ") + "\n", ctx)


def _print_version(ctx: click.Context, _option: click.Parameter, is_given: bool) -> None:
    if is_given and not ctx.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  rarely

        try:
            text = version("elrun")
        except PackageNotFoundError:
            text = "from a source tree that is not installed"
        _tell(f"elrun {text}\n", ctx)


def _tell(text: str, ctx: click.Context) -> None:
    Console(sys.stdout).write(text)
    ctx.exit()
