"""``elrun report [RUN]... [-o FILE]``: what a run did, as a page for a browser or as text."""

from __future__ import annotations

import contextlib
import getopt
import os
import stat
import sys
from collections.abc import Sequence

from ..commandline.arguments import Refusal, quoted
from ..commandline.environment import Environment
from ..commandline.parse import Answered
from ..report.choice import chosen_records
from ..report.story import story_of
from ..report.text import text_of
from ..terminal.console import Console

USAGE = """\
Usage: elrun report [RUN]... [-o FILE]

Show what a run did: its nodes and rounds, each failure with its cause, what
the ranks used, what was decided, and how it was launched.

RUN is a run id, the folder of a run, or a report; of several nodes give those
of all, and they become one. Without RUN, it is the latest run of this host.

  -o, --output FILE  Write a page for a browser here; - is standard output.
                     Without it, a summary is shown.
  -h, --help         Show this and exit.
"""


def run(args: Sequence[str], environment: Environment) -> int:
    """Show what a run did, and return the exit code.

    Args:
        args: What stands after ``elrun report``.
        environment: The environment.

    Raises:
        Refusal: There is no such run, or the page can't be written.
        Answered: ``--help`` was asked for.
        OSError: Standard output can't be written.
    """
    console = Console(sys.stdout)
    try:
        options, names = getopt.gnu_getopt(list(args), "ho:", ["help", "output="])
    except getopt.GetoptError as error:
        raise Refusal(
            f"elrun report: {error.msg}; elrun report --help lists the options"
        ) from error
    path = ""
    for name, value in options:
        if name in ("-h", "--help"):
            console.answer(USAGE)
            raise Answered
        path = value
        if not path:
            raise Refusal("elrun report --output: give the path of a file")
    story = story_of(chosen_records(names, environment.variables))
    if not path:
        console.answer(text_of(story))
        return 0
    from ..report.page import page_of  # noqa: PLC0415  loads jinja2

    page = page_of(story)
    if path == "-":
        console.answer(page)
        return 0
    try:
        write_page(path, page.encode())
    except OSError as error:
        what = f"the page can't be written to {quoted(path)}: {error.strerror} (--output)"
        raise Refusal(what) from error
    Console().say(f"the page is in {path}")
    return 0


def write_page(path: str, data: bytes) -> None:
    """Write a file at once: a browser that has it open never sees a half.

    Args:
        path: The file; a device or a pipe is written to as it is.
        data: What it gets.

    Raises:
        OSError: It can't be written.
    """
    path = os.path.realpath(path)
    if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
        with open(path, "wb") as file:
            file.write(data)
        return
    scratch = f"{path}.{os.getpid()}.new"
    try:
        with open(scratch, "xb") as file:
            file.write(data)
        os.replace(scratch, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(scratch)
        raise
