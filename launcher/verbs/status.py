"""``elrun status [RUN]``: how a job stands, or how it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .front import SETTINGS
from .standing import show_status

if TYPE_CHECKING:
    from collections.abc import Mapping


@click.command("status", context_settings=SETTINGS)
@click.argument("run", required=False)
@click.option("--watch", is_flag=True, help="Show it again and again, until the job ends.")
@click.option("--all", "is_list", is_flag=True, help="List all runs of yours on this host.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    help="How it is shown; with --watch, a line of JSON each time.",
)
@click.pass_obj
def command(
    variables: Mapping[str, str], run: str | None, form: str, *, watch: bool, is_list: bool
) -> int:
    """Show how a job of yours on this host stands: its nodes, its ranks, its restarts.

    RUN is a run id (--rdzv-id) or how one begins, the name or path of a script, or the process id
    of an elrun. Without RUN, the only job that runs is meant; several are listed.
    """
    return show_status(variables, run, form, watch=watch, is_list=is_list)
