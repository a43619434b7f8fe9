"""What mkdocs needs to know of this repository: pages from elsewhere, and links out of `docs/`.

README.md, ARCHITECTURE.md and others lie beside `docs/`; the page of the command line is what
`elrun --help` and each verb print. A file of the repository to which a page leads, such as an
example, is a page that shows it; so is a folder, with all of its files.
"""

from __future__ import annotations

import posixpath
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

TREE = Path(__file__).parents[2]
# Where a page of the repository's first folder stands in the site.
HOMES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "vulnerabilities.md",
}
VERBS = ("doctor", "status", "stacks", "logs", "stop", "report")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)", re.DOTALL)
PICTURE = re.compile(r"(!\[[^\]]*\]\()docs/", re.DOTALL)
FENCE = re.compile(r"^(```)(\w+)[^\n]*$", re.MULTILINE)
LANGUAGES = {".py": "python", ".sh": "bash", ".sbatch": "bash", ".yaml": "yaml", ".yml": "yaml"}
LANGUAGES |= {".json": "json", ".toml": "toml"}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie elsewhere, and the one that is asked of the program."""
    for name, home in HOMES.items():
        text = PICTURE.sub(r"\1", (TREE / name).read_text())
        files.append(File.generated(config, home, content=text))
    files.append(File.generated(config, "command-line.md", content=command_line()))
    known = {file.src_uri for file in files}
    pages = [TREE / name for name in HOMES] + sorted((TREE / "docs").rglob("*.md"))
    for path in sorted({path for page in pages for path in shown_by(page)}):
        home = home_of(path)
        if home not in known:
            files.append(File.generated(config, home, content=source_page(path)))
    return files


def shown_by(page: Path) -> Iterator[str]:
    """Yield what a page leads to that is no page: files and folders of the repository."""
    for _, target in LINK.findall(page.read_text()):
        path = (page.parent / target.partition("#")[0]).resolve()
        if path.exists() and path.is_relative_to(TREE) and path.suffix != ".md" and path != TREE:
            yield path.relative_to(TREE).as_posix()


def home_of(path: str) -> str:
    """Return where a path of the repository stands in the site."""
    if path in HOMES:
        return HOMES[path]
    inside = path.removeprefix("docs/")
    is_there = inside != path and (TREE / path).is_file()
    return inside if is_there else f"source/{path}.md"


def source_page(path: str) -> str:
    """Return a page that shows a file, or all files of a folder."""
    whole = TREE / path
    shown = (
        [whole] if whole.is_file() else sorted(each for each in whole.iterdir() if each.is_file())
    )
    parts = [f"# {path}"]
    for each in shown:
        heading = [] if each == whole else [f"## {each.name}"]
        language = LANGUAGES.get(each.suffix, "text")
        parts += [*heading, f"````{language}\n{each.read_text()}````"]
    return "\n\n".join(parts) + "\n"


def on_page_markdown(markdown: str, *, page: Any, files: Files, **_: Any) -> str:
    """Lead the links of a page to pages of the site; leave out what only tests read of a fence."""
    homes = {home: name for name, home in HOMES.items()}
    source = homes.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    here = posixpath.dirname(page.file.src_uri)
    pages = {file.src_uri for file in files}

    def lead(found: re.Match[str]) -> str:
        text, target = found[1], found[2]
        if "://" in target or target.startswith(("#", "mailto:")):
            return found[0]
        path, mark, anchor = target.partition("#")
        whole = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        home = home_of(whole)
        if home not in pages:
            return text
        return f"[{text}]({posixpath.relpath(home, here or '.')}{mark}{anchor})"

    return LINK.sub(lead, FENCE.sub(r"\1\2", markdown))


def command_line() -> str:
    """Return the page that the program itself writes."""
    parts = [
        "# Command line",
        "What the program prints. Each option is a variable, too: `PET_NNODES=2` is `--nnodes 2`.",
        f"## elrun\n\n```text\n{ask('--help')}```",
    ]
    parts += [f"## elrun {verb}\n\n```text\n{ask(verb, '--help')}```" for verb in VERBS]
    return "\n\n".join(parts) + "\n"


def ask(*words: str) -> str:
    """Return what elrun prints, at a terminal of 100 columns."""
    command = [sys.executable, "-m", "elrun", *words]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        cwd=TREE / "docs",
        env={"COLUMNS": "100", "PATH": "/usr/bin:/bin", "HOME": "/"},
    )
    return done.stdout
