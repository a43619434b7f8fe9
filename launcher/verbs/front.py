"""The verbs that look at jobs or act on them: each is a command of Click's, in its own module."""

from __future__ import annotations

from importlib import import_module

from ..commandline.arguments import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    import click

LOOKING = ("logs", "report", "stacks", "status", "stop")
"""The verbs; each is the name of a module with a ``command``."""
SETTINGS = {"help_option_names": ["-h", "--help"]}
"""Of each command: Click keeps the names of the first time."""


def run_verb(verb: str, args: list[str], variables: Mapping[str, str]) -> int:
    """Do what a verb says; return the exit code.

    Args:
        verb: One of ``LOOKING``.

    Raises:
        Refusal: An option is not known, or has a wrong value.
        VerbRefusal: There is no such run, or its agent does not answer.
        KeyboardInterrupt: Ctrl-C.
    """
    if verb == "status" and not args:
        from .standing import show_status  # half as long as Click, which has nothing to parse

        return show_status(variables)
    import click

    command: click.Command = import_module(f".{verb}", __package__).command
    try:
        code = command.main(args, f"elrun {verb}", standalone_mode=False, obj=variables)
    except click.UsageError as error:
        sentence = error.format_message().rstrip(".")
        raise Refusal(f"{sentence[:1].lower()}{sentence[1:]} (elrun {verb} --help)") from error
    except click.Abort as error:
        raise KeyboardInterrupt from error
    return int(code or 0)
