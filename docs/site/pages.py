"""What mkdocs needs to know of this repository: pages from elsewhere, and links out of `docs/`.

README.md, ARCHITECTURE.md and others lie beside `docs/`; the page of the command line is what
`elrun --help` and each verb print. A link to a file that the site does not have becomes its text.
"""

from __future__ import annotations

import posixpath
import re
import subprocess
import sys
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


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie elsewhere, and the one that is asked of the program."""
    for name, home in HOMES.items():
        text = PICTURE.sub(r"\1", (TREE / name).read_text())
        files.append(File.generated(config, home, content=text))
    files.append(File.generated(config, "command-line.md", content=command_line()))
    return files


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
        home = HOMES.get(whole, whole.removeprefix("docs/"))
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
