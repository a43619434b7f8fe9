"""``elrun report [RUN]... [-o FILE]``: what a run did, as a page for a browser or as text."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

import click

from ...agent.system.whole_writes import replace_file
from ...rendezvous.api.parameters import quoted
from ..commandline.arguments import Refusal
from ..report.choice import chosen_records
from ..report.story import story_of
from ..report.text import text_of
from ..terminal.console import Console
from .front import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Mapping


@click.command("report", context_settings=SETTINGS)
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write a page for a browser here; - is standard output. Without it, a summary is shown.",
)
@click.pass_obj
def command(variables: Mapping[str, str], runs: tuple[str, ...], output: str | None) -> int:
    """Show what a run did: its nodes and rounds, its failures, what its ranks used.

    RUN is a run id or how one begins, the name or path of a script, the process id of an elrun, the
    folder of a run, or a report; of several nodes give those of all, and they become one. Without
    RUN, it is the latest run.
    """
    console = Console(sys.stdout)
    if output == "":
        raise Refusal("elrun report --output: give the path of a file")
    story = story_of(chosen_records(runs, variables))
    if output is None:
        console.answer(text_of(story))
        return 0
    from ..report.page import page_of  # loads jinja2

    page = page_of(story)
    if output == "-":
        console.answer(page)
        return 0
    try:
        write_page(output, page.encode())
    except OSError as error:
        what = f"the page can't be written to {quoted(output)}: {error.strerror} (--output)"
        raise Refusal(what) from error
    Console().say(f"the page is in {output}")
    return 0


def write_page(path: str, data: bytes) -> None:
    """Write a file at once: a browser that has it open never sees a half.

    Args:
        path: The file; a device or a pipe is written to as it is.

    Raises:
        OSError: It can't be written.
    """
    path = os.path.realpath(path)
    if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
        with open(path, "wb") as file:
            file.write(data)
        return
    replace_file(path, data)
