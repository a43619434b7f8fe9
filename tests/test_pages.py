"""Each command of a page is run by a test, or the page says why it can't be."""

import re

import pytest
from page_kit import BLOCKS, PAGES, REPOSITORY, blocks_of, indented_commands

pytestmark = pytest.mark.skipif(
    not (REPOSITORY / "src").exists(), reason="a wheel is tested, no source tree is near"
)

MAKE = re.compile(r"(?:^|`)make (\w+)((?: [A-Z]+=\S+)*)", re.MULTILINE)
PATH = re.compile(r"\b(?:[\w-]+/)+[\w-]+\.\w+")
MARKED = [block for block in BLOCKS if block.needs_mark]


@pytest.mark.parametrize("block", MARKED, ids=str)
def test_a_command_is_run_or_a_reason_is_given(block):
    """A command that nobody has run may not work."""
    known = block.is_run or block.value("file") or block.value("part") or block.reason

    assert known, f"mark it with `run`, or with `no-run: REASON`: {block.body}"
    assert [] == [path for path in PATH.findall(block.reason) if not (REPOSITORY / path).exists()]


@pytest.mark.parametrize("page", PAGES)
def test_a_command_stands_in_a_fence(page):
    """A block that is only indented can't be marked."""
    assert [] == indented_commands(PAGES[page])


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.value("part")], ids=str)
def test_a_part_of_a_program_stands_in_it(block):
    """Line for line."""
    program = {line.strip() for line in (REPOSITORY / block.value("part")).read_text().splitlines()}

    assert set() == {line.strip() for line in block.body.splitlines()} - program - {""}


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        ("It is\n\n    elrun status   # now\n    step 1\n", ["elrun status   # now"]),
        ("\n\n    PET_NNODES=2 elrun train.py\n", ["PET_NNODES=2 elrun train.py"]),
        ("\n\n    elrun: no rank goes on\n", []),
        ("\n\n```bash\n\n    make run\n```\n", []),
    ],
)
def test_an_indented_command_is_seen(text, commands):
    """Not what elrun prints, nor what is inside of a fence."""
    assert commands == indented_commands(text)


@pytest.mark.parametrize(
    ("fence", "is_run", "reason"),
    [
        ("bash run exit=3", True, ""),
        ("bash", False, ""),
        ("bash no-run: needs a GPU to run", False, "needs a GPU to run"),
        ("yaml", False, ""),
    ],
)
def test_marks_are_read(fence, is_run, reason):
    """The tests above can fail."""
    (block,) = blocks_of("page.md", f"```{fence}\nelrun train.py\n```\n")

    assert (True, is_run, reason) == (block.needs_mark, block.is_run, block.reason)


def test_every_make_command_exists():
    """``make X`` is a target of the Makefile, and ``NAME=`` one of its variables."""
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = set(re.findall(r"^(\w+):.*##", makefile, re.MULTILINE))
    variables = set(re.findall(r"\$\(?(?:[\w-]+ 0,)?([A-Z]+)\)", makefile))
    found = [match for text in PAGES.values() for match in MAKE.findall(text)]

    assert set() == {target for target, _ in found} - targets - {"alone"}
    assert set() == set(re.findall(r"([A-Z]+)=", " ".join(more for _, more in found))) - variables
