"""Finds which versions of packages a Python interpreter would import, without importing them."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ASK_S = 10.0
_MOST_ANSWER = 1 << 16
# What a `sitecustomize` prints comes before the last line.
_TELL = "import sys, json; print(); print(json.dumps([sys.version.split()[0], *sys.path]))"
_SUFFIXES = (".dist-info", ".egg-info")


def version_on(path: Sequence[str], package: str) -> str:
    """Return the version of a package on a module search path, as its metadata name it.

    Args:
        path: Folders, as in ``sys.path``; the first that has the package counts.
        package: The name of a distribution without a hyphen, such as ``torch``.

    Returns:
        The version; "" if no folder has the package's metadata.
    """
    start = f"{package}-"
    for folder in filter(None, path):
        try:
            entries = os.listdir(folder)
        except OSError:  # an archive, or a folder that is not there
            continue
        for entry in sorted(entries, reverse=True):
            name, suffix = os.path.splitext(entry)
            if suffix in _SUFFIXES and name.startswith(start):
                return name[len(start) :].partition("-")[0]  # an egg's name goes on
    return ""


def interpreter_facts(program: str, environ: Mapping[str, str]) -> tuple[str, list[str]] | None:
    """Return a Python interpreter's version and module search path; None: it does not tell."""
    if program == sys.executable:
        return sys.version.split()[0], sys.path
    import json  # few jobs' workers run by another interpreter than the agent
    import subprocess

    try:
        answer = subprocess.run(
            [program, "-c", _TELL],
            check=True,
            timeout=_ASK_S,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
        )
        version, *path = json.loads(answer.stdout[-_MOST_ANSWER:].splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
    return version, path
