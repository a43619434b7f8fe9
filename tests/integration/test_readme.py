"""The commands in the README and in the pages of `docs/` work.

A block marked ```` ```bash run ```` is run, in a folder that has examples/ as the repository has.
```` ```bash run exit=3 ```` must exit with that code. The command must print the lines of a
```` ```text output ```` block after it, in any order.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[2]
TEXT = (REPOSITORY / "README.md").read_text()
PAGES = (TEXT, *(path.read_text() for path in sorted((REPOSITORY / "docs").glob("*.md"))))
PICTURE = "docs/pictures/failure"
BLOCK = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def runnable(text):
    """Return (script, exit code, lines of output) of each block that is to be run."""
    found = []
    for language, marks, body in BLOCK.findall(text):
        if language == "bash" and "run" in marks.split():
            exit_code = re.search(r"exit=(\d+)", marks)
            found.append((body, int(exit_code[1]) if exit_code else 0, []))
        elif marks.split() == ["output"]:
            found[-1][2].extend(body.splitlines())
    return found


BLOCKS = [block for page in PAGES for block in runnable(page)]


@pytest.mark.parametrize(
    ("block", "exit_code", "lines"),
    BLOCKS,
    ids=[body.splitlines()[0][:60] for body, _, _ in BLOCKS],
)
def test_a_command_of_a_page_works(elrun, tmp_path, block, exit_code, lines):
    """It exits as the page says and prints what the page shows."""
    shutil.copytree(REPOSITORY / "examples", tmp_path / "examples")
    become_bash = ("-c", "import os, sys; os.execvp('bash', ['bash', '-e', *sys.argv[1:]])")

    code, out, err = elrun("-c", block, command=become_bash, env={"PATH": PATH}).finish()

    assert exit_code == code, err
    assert set(lines) <= set(out.splitlines())


def test_the_readme_has_a_tour():
    """The blocks are found: the test above can fail."""
    assert (8, 5) == (len(runnable(TEXT)), sum(len(runnable(page)) for page in PAGES[1:]))
    assert 2 == sum(bool(lines) for _, _, lines in runnable(TEXT))


def test_every_make_command_exists():
    """``make X`` in the README is a target of the Makefile."""
    named = set(re.findall(r"^make (\w+)|`make (\w+)", TEXT, re.MULTILINE))
    targets = set(re.findall(r"^(\w+):.*##", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))

    assert {first or second for first, second in named} <= targets


def test_links_lead_somewhere():
    """A relative link names a file of the repository."""
    links = re.findall(r"\]\((?!https?:|#)([^)]+)\)", TEXT)

    assert [] == [link for link in links if not (REPOSITORY / link).exists()]


def test_the_picture_shows_the_report_of_a_real_job(tmp_path):
    """``make docs`` draws it; run that again when the report has changed."""
    program, drawn = REPOSITORY / f"{PICTURE}.py", tmp_path / "failure.svg"

    done = subprocess.run(
        [sys.executable, program, drawn], capture_output=True, text=True, check=False
    )

    assert 0 == done.returncode, done.stderr
    assert (REPOSITORY / f"{PICTURE}.svg").read_text() == drawn.read_text(), "run `make docs`"


def test_the_picture_is_on_the_first_screen():
    """A reader sees a failure report before the first command."""
    assert f"]({PICTURE}.svg)" in TEXT.partition("## ")[0]
