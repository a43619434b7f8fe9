"""The README is the front page: it is short, and what it shows and links is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[2]
TEXT = (REPOSITORY / "README.md").read_text()
PICTURE = "docs/pictures/failure"


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
