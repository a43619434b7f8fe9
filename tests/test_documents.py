"""The pages for people name files that exist."""

import re
from pathlib import Path

import pytest

TREE = Path(__file__).parent.parent
HOUSES = ["launcher", "agent", "rendezvous"]
PAGES = [
    *sorted(TREE.glob("*.md")),
    *sorted((TREE / "docs").rglob("*.md")),
]
# A name in backticks is a path if it has a slash and a suffix, or ends with a slash. What begins
# with a capital or a dot is made by a user's job, or by make.
PATH = re.compile(
    r"`((?![A-Z.])(?:[\w.-]+/)+(?:[\w-]+\.(?:py|sh|md|svg|sbatch|toml|txt))?)(?:::\w+)?`"
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
THREAD = re.compile(r'name="(elrun-[\w-]+)"')
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)

pytestmark = pytest.mark.skipif(
    not (TREE / "src").exists(), reason="a wheel is tested, no source tree is near"
)


def missing(page, text):
    """Return the paths and links of a page that lead nowhere."""
    prose = FENCE.sub("", text)
    links = [link.partition("#")[0] for link in LINK.findall(prose) if "://" not in link]
    return {path for path in PATH.findall(prose) if not (TREE / path).exists()} | {
        link for link in links if link and not (page.parent / link).exists()
    }


def sources():
    """Return the modules of the three houses."""
    return [path for house in HOUSES for path in (TREE / house).rglob("*.py")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(TREE).as_posix())
def test_a_page_names_files_that_exist(page):
    """Each path from the root of the repository, and each link from the page's folder."""
    assert set() == missing(page, page.read_text())


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("see `agent/no_such.py`", "agent/no_such.py"),
        ("run `tests/no_such.py::test_it`", "tests/no_such.py"),
        ("the room `agent/no_such/`", "agent/no_such/"),
        ("[a page](docs/no_such.md#part)", "docs/no_such.md"),
    ],
)
def test_a_path_that_leads_nowhere_is_seen(text, path):
    """In backticks or as a link."""
    assert {path} == missing(TREE / "README.md", text)


def test_the_architecture_names_each_room():
    """A stranger finds each folder there."""
    rooms = {path.parent.relative_to(TREE).as_posix() for path in sources()}
    page = (TREE / "ARCHITECTURE.md").read_text()

    unnamed = {room for room in rooms if f"`{room}/`" not in page}
    assert {"agent/preload/hook", "agent/workers/hook"} == unnamed


def test_the_architecture_names_each_thread():
    """With the module that starts it, in one row."""
    rows = (TREE / "ARCHITECTURE.md").read_text().splitlines()
    started = {
        (name, path.relative_to(TREE).as_posix())
        for path in sources()
        for name in THREAD.findall(path.read_text())
    }
    told = {
        (name, place)
        for name, place in started
        if any(f"`{name}`" in row and f"`{place}`" in row for row in rows)
    }

    assert len(started) > len(HOUSES)
    assert set() == started - told
