"""Writes ``constraints.txt`` anew: the newest version of each package that fits all the others.

    make constraints

pip chooses the versions, of what elrun, its tests, `make clients`, `make mutants` and
`make release` need together, and installs nothing. torch stays at the version that elrun is
measured against, and what `requirements.txt` files name stays at the version that they name.
Afterwards `make check`, `make clients` and `make release` tell whether the new versions do.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TREE = Path(__file__).parents[2]
PINS = TREE / "constraints.txt"
EXTRAS = ".[dev,examples,metrics,otel]"
BUILD = ("pip", "setuptools", "cosmic-ray")
REQUIREMENTS = ("tests/clients/requirements.txt", "tests/release/requirements.txt")


def main() -> int:
    before = PINS.read_text()
    found = resolve(kept(before, "torch"))
    PINS.write_text(renewed(before, found))
    subprocess.run(["git", "--no-pager", "diff", "--stat", PINS.name], cwd=TREE, check=False)
    return 0


def kept(pins: str, name: str) -> str:
    """Return the line of a package that stays as it is."""
    return next(line for line in pins.splitlines() if line.startswith(f"{name}=="))


def resolve(*fixed: str) -> dict[str, str]:
    """Return the version that pip would install of each package, by its name."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    command += ["--dry-run", "--ignore-installed", "--report", "-", *fixed, *BUILD, EXTRAS]
    for path in REQUIREMENTS:
        command += ["--requirement", path]
    done = subprocess.run(command, cwd=TREE, check=True, stdout=subprocess.PIPE)
    return versions_in(json.loads(done.stdout)["install"])


def versions_in(installs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return names, as indexes compare them, and versions, without a build's own suffix."""
    about = [each["metadata"] for each in installs]
    return {
        plain(each["name"]): each["version"].partition("+")[0]
        for each in about
        if each["name"] != "elrun"
    }


def plain(name: str) -> str:
    """Return a name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def renewed(before: str, found: Mapping[str, str]) -> str:
    """Return the file with other versions; its remarks, and how it spells names, stay."""
    head = [line for line in before.splitlines() if line.startswith("#")]
    names = [line.partition("==")[0] for line in before.splitlines() if "==" in line]
    spelled = {plain(name): name for name in names}
    pins = [f"{spelled.get(name, name)}=={found[name]}" for name in sorted(found)]
    return "\n".join([*head, *pins, ""])


if __name__ == "__main__":
    sys.exit(main())
