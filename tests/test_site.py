"""The documents as a site: each page is in it, links lead somewhere, messages are real."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).parents[1]
DOCS = TREE / "docs"
ROOMS = ("launcher", "agent", "rendezvous")

pytestmark = pytest.mark.skipif(
    not (TREE / "mkdocs.yml").exists(), reason="a wheel is tested, no source tree is near"
)


def sentences():
    """Return the texts of the package, with `…` where something is put in."""
    texts = []
    for room in ROOMS:
        for path in (TREE / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = (v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
                    texts.append("".join(parts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(re.sub(r"%[srd]", "…", node.value))
    return "\n".join(texts)


def quoted_messages():
    page = (DOCS / "troubleshooting.md").read_text()
    return re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)


# Variables that elrun's own processes hand to each other.
INTERNAL = ("AGENT", "HEARTBEATS", "LEARN", "PREEMPTION", "PRELOAD", "WORKER")
TORCHS = {"Connection closed by peer"}
MADE_OF_PARTS = {
    "stopped by elrun (SIGTERM)",
    "was killed by SIGKILL",
    "is held by",
    "stopped by SIGTERM",
}


@pytest.fixture(scope="module")
def package():
    return sentences()


@pytest.mark.parametrize("message", quoted_messages())
def test_a_message_of_the_troubleshooting_page_is_elruns(package, message):
    """A page that explains sentences which nobody sees misleads."""
    if message in TORCHS | MADE_OF_PARTS:
        words = message.split(" (")[0].rsplit(" SIG", 1)[0]
        assert message in TORCHS or words in package
    else:
        assert message in package


def test_each_page_is_in_the_navigation():
    """A page that nobody can find was written for nobody."""
    config = (TREE / "mkdocs.yml").read_text()
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.glob("*.md")}

    assert set() == {page for page in pages if f": {page}" not in config}


def test_each_variable_that_elrun_reads_is_explained():
    """Those that elrun's processes hand to each other are none of a user's."""
    internal = {f"ELRUN_{what}" for what in INTERNAL}
    pattern = re.compile(r'"((?:ELRUN|TORCHELASTIC|TORCH)_[A-Z_]+[A-Z])"')
    read = {
        name
        for room in ROOMS
        for path in (TREE / room).rglob("*.py")
        for name in pattern.findall(path.read_text())
    }
    page = (DOCS / "environment.md").read_text()

    assert set() == {name for name in read - internal if f"`{name}`" not in page}


@pytest.mark.integration  # it renders all pages
def test_the_site_is_built_without_a_warning(tmp_path):
    """Links, anchors and names that lead nowhere are errors."""
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict"]

    done = subprocess.run(
        [*command, "--site-dir", tmp_path], cwd=TREE, capture_output=True, text=True, check=False
    )

    assert 0 == done.returncode, done.stderr[-3000:]
    for page in ("index", "command-line", "python", "decisions/index", "troubleshooting"):
        assert (tmp_path / f"{page}.html").exists(), page
    assert 'href="source/examples/train.py.html"' in (tmp_path / "index.html").read_text()
    assert "die-at-step" in (tmp_path / "source/examples/train.py.html").read_text()
    assert "resume.sbatch" in (tmp_path / "source/examples/slurm.html").read_text()
    assert "--nproc-per-node" in (tmp_path / "command-line.html").read_text()
    assert "def notebook_launch" not in (tmp_path / "python.html").read_text()
    assert "notebook_launch" in (tmp_path / "python.html").read_text()
