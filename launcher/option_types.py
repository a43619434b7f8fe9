"""What Click has to know about an option of elrun: its type, its group, where its value is from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click
from click.core import ParameterSource

from .given import Origin, Refusal, said

NO_BREAK = "\0"
"""Stands for a space at which no line may be broken."""

_ORIGINS = {
    ParameterSource.COMMANDLINE: Origin.COMMAND_LINE,
    ParameterSource.DEFAULT_MAP: Origin.ENVIRONMENT,
}


class Value(click.ParamType):  # type: ignore[type-arg]  # generic since Click 8.4 only
    """The type of an option's value.

    Args:
        parse: Turns text into the value; a ``ValueError`` says what would be right.
    """

    name = "value"

    def __init__(self, parse: Callable[[str], Any]) -> None:
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value, or refuse the text under the name that the user gave it."""
        try:
            return self._parse(value)
        except ValueError as error:
            name = (param and param.name) or ""
            origin = origin_of(name, ctx) if ctx else Origin.COMMAND_LINE
            raise Refusal(f"{said(name, value, origin)}: {error}") from error
        finally:
            if param and ctx:
                texts_of(ctx)[param.name or ""] = value


def origin_of(name: str, ctx: click.Context) -> Origin:
    """Return where an option's value comes from."""
    source = ctx.get_parameter_source(name)
    return Origin.DEFAULT if source is None else _ORIGINS.get(source, Origin.DEFAULT)


def texts_of(ctx: click.Context) -> dict[str, str]:
    """Return the texts that options were given, by name."""
    texts: dict[str, str] = ctx.meta.setdefault("elrun.texts", {})
    return texts


class LaunchOption(click.Option):
    """An option that stands in a group of ``--help``.

    Args:
        group: The group's title.
    """

    def __init__(self, spellings: Sequence[str], *, group: str, **settings: Any) -> None:
        super().__init__(spellings, **settings)
        self.group = group

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the two columns of ``--help``; a default is not broken over two lines."""
        record = super().get_help_record(ctx)
        if record is None:
            return None
        text, mark, default = record[1].partition("[default: ")
        return record[0], text + mark.replace(" ", NO_BREAK) + default.replace(" ", NO_BREAK)


def value(
    spellings: str,
    metavar: str,
    group: str,
    parse: Callable[[str], Any],
    default: str | None,
    description: str,
) -> LaunchOption:
    """Return an option that takes a value.

    Args:
        spellings: Its names, separated by spaces.
        metavar: What its value is called in ``--help``.
        group: The title that it stands under.
        parse: Turns text into the value; a ``ValueError`` says what would be right.
        default: The text that stands for it where none is given.
        description: Its line in ``--help``.
    """
    return LaunchOption(
        spellings.split(),
        group=group,
        metavar=metavar,
        type=Value(parse),
        default=default,
        show_default=bool(default),
        help=description,
    )


def flag(spellings: str, group: str, description: str) -> LaunchOption:
    """Return an option without a value; see ``value``."""
    return LaunchOption(spellings.split(), group=group, is_flag=True, help=description)
