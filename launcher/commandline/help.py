"""The page that ``--help`` shows, laid out by Click.

Reading a command line takes no library, once `spelling` has spelt it out, and Click takes 15 ms to
import, a fifth of a start. So it does here what it does best, and only for those who ask for it.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import click

from .option import Option
from .options import ALL_OPTIONS
from .verbs import VERBS

USAGE = "elrun [OPTIONS] SCRIPT [ARGS]..."

_INTRODUCTION = """\
Run SCRIPT as the workers of a distributed job on this node, keep them running,
and say why the job failed if it does. Each node of the job runs elrun alike.

What follows SCRIPT is passed on to it. PYTHON_EXEC names another interpreter.
Each option can be set in the environment, too: PET_NNODES=2 is --nnodes 2.
"""

VERB_SECTION = "Verbs, which come first (elrun VERB --help)"

_COLUMN = 26
_NO_BREAK = "\0"  # stands for a space at which no line may be broken


def help_page() -> str:
    """Return the page, readable at 80 columns."""
    with build_command().make_context("elrun", [], resilient_parsing=True) as context:
        return context.get_help().replace(_NO_BREAK, " ") + "\n"


def build_command() -> click.Command:
    """Return the command as Click knows it."""
    command = click.Argument(["command"], nargs=-1, type=click.UNPROCESSED)
    return _LaunchCommand(
        "elrun",
        params=[*map(_ShownOption, ALL_OPTIONS), command],
        context_settings={"allow_interspersed_args": False},
        add_help_option=False,
    )


class _LaunchCommand(click.Command):
    """A command whose options are shown in groups."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"Usage: {USAGE}\n\n{_INTRODUCTION}")
        with formatter.section(VERB_SECTION):
            formatter.write_dl([(name, verb.help) for name, verb in VERBS.items()])
        options = [each for each in self.params if isinstance(each, _ShownOption)]
        for group, members in groupby(options, key=lambda option: option.group):
            records = [option.get_help_record(ctx) for option in members]
            rows = [(names.ljust(_COLUMN), text) for names, text in filter(None, records)]
            with formatter.section(group):
                formatter.write_dl(rows, col_max=_COLUMN)


class _ShownOption(click.Option):
    """An option that stands in a group."""

    def __init__(self, option: Option) -> None:
        settings: dict[str, Any] = {"is_flag": True}
        if not option.is_flag:
            settings = {
                "metavar": option.metavar,
                "default": option.default,
                "show_default": bool(option.default),
            }
        super().__init__(option.opts, help=option.help, **settings)
        self.group = option.group

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the two columns of ``--help``; a default is not broken over two lines."""
        record = super().get_help_record(ctx)
        if record is None:
            return None
        text, mark, default = record[1].partition("[default: ")
        return record[0], text + mark.replace(" ", _NO_BREAK) + default.replace(" ", _NO_BREAK)
