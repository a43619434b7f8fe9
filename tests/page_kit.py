"""Reads the commands of the pages: the README, and what is in `docs/`.

What stands behind a fence's language says what a test does with the block (readers don't see it):

- ``bash run``, ``python run``: it is run, in a folder that has examples/ as the repository has,
  and a ``train.py``. ``exit=3``: it must exit with that code. The lines of a ``text output`` block
  after it must be among those that it prints.
- ``nodes=2``: it is started so many times at once, as on so many nodes.
- Further words name what must be there before: ``job`` (one that runs), ``kept`` (one that has
  ended), ``long`` (``train.py`` goes on until it is stopped), ``etcd``, ``slurm``, ``collector``,
  ``certificates``, ``secret``; ``small`` has fewer nodes.
- ``python file=train.py``: the page's blocks find this program in their folder.
- ``python part=examples/train.py``: it is a part of this file.
- ``no-run: REASON``: no test can run it, and why.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
# `make gallery` writes that page: each command on it was run for it.
WRITTEN_BY_PROGRAMS = {"docs/gallery.md"}
PAGES = {
    path.relative_to(REPOSITORY).as_posix(): path.read_text()
    for path in (
        *sorted(REPOSITORY.glob("*.md")),
        *sorted((REPOSITORY / "docs").rglob("*.md")),
    )
    if path.relative_to(REPOSITORY).as_posix() not in WRITTEN_BY_PROGRAMS
}

FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(
    r"^\s*(?:\$ )?(?:\w+=\S+ )*(?:\S*bin/)?"
    r"(elrun|make|python3?|pip|srun|sbatch|scancel|mpirun|kubectl|curl|etcd|bash|pytest|hyperfine"
    r"|torchrun) (?!is |has )\S",
    re.MULTILINE,
)
INDENTED = re.compile(r"(?:^|\n)\n((?: {4}[^\n]*\n)+)")
NO_RUN = re.compile(r"no-run: (.+)")


@dataclass(frozen=True)
class Block:
    """A block of a page.

    Args:
        page: The page's path in the repository.
        language: The word behind the fence.
        marks: What follows that.
        body: The lines in it.
        output: Lines that it prints, as the page shows.
    """

    page: str
    language: str
    marks: str
    body: str
    output: list[str] = field(default_factory=list)

    @property
    def words(self):
        return self.marks.split()

    @property
    def reason(self):
        """Why no test can run it; empty if that isn't said."""
        found = NO_RUN.search(self.marks)
        return found[1] if found else ""

    @property
    def is_run(self):
        return "run" in self.words and not self.reason

    @property
    def needs_mark(self):
        """Whether a reader may type this, or a part of it."""
        return self.language in {"bash", "sh", "console", "python"} or (
            self.language not in {"text", "json", "diff"} and bool(COMMAND.search(self.body))
        )

    def value(self, name, default=None):
        """Return what a mark of this name says."""
        return next((w.partition("=")[2] for w in self.words if w.startswith(f"{name}=")), default)

    def __str__(self):
        return f"{Path(self.page).stem}: {self.body.splitlines()[0][:50]}"


def blocks_of(page, text):
    """Return the blocks of a page, each with the output that it is followed by."""
    found = []
    for language, marks, body in FENCE.findall(text):
        if marks.split() == ["output"]:
            found[-1].output.extend(body.splitlines())
        else:
            found.append(Block(page, language, marks.strip(), body))
    return found


def indented_commands(text):
    """Return the commands that stand in blocks without a fence, where nothing can be marked."""
    blocks = INDENTED.findall(FENCE.sub("", text))
    return [line.strip() for block in blocks for line in block.splitlines() if COMMAND.match(line)]


BLOCKS = [block for page, text in PAGES.items() for block in blocks_of(page, text)]
