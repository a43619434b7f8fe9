"""Builds what a release uploads, into ``dist/``, and checks it; nothing is uploaded.

    make release

A wheel, a source distribution, a list of an installation's components (SBOM, CycloneDX), and the
SHA-256 of each. Each check prints a line. The exit code is 1 if one failed: the files then have no
checksums, so that nobody takes them for a release. What could not be checked on this machine, such
as advisories without a network, is UNKNOWN: the last line names it, in place of the upload.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TREE = Path(__file__).parents[2]
DIST = TREE / "dist"
BIN = Path(sys.executable).parent
STEP_S = 1800.0


class Failed(Exception):
    """A check that failed, with what to do."""


class Unknown(Exception):
    """A check that could not be made on this machine, with the reason."""


@dataclass
class Release:
    """What is built, and what each check found.

    Args:
        version: The version.
        work: A folder for what is not kept.
        unknown: The checks that could not be made on this machine.
    """

    version: str
    work: Path
    unknown: list[str] = field(default_factory=list)

    @property
    def wheel(self) -> Path:
        return DIST / f"elrun-{self.version}-py3-none-any.whl"

    @property
    def sdist(self) -> Path:
        return DIST / f"elrun-{self.version}.tar.gz"

    @property
    def python(self) -> Path:
        """The interpreter of the environment that has only what a user gets."""
        return self.work / "user/bin/python"


def run(*command: str | Path, cwd: Path = TREE, **environment: str) -> str:
    """Run a command to its end; return what it printed, or raise with that."""
    done = run_to_end(*command, cwd=cwd, **environment)
    if done.returncode:
        shown = " ".join(str(word) for word in command)
        raise Failed(f"exit code {done.returncode}: {shown}\n{done.stdout.strip()}")
    return done.stdout


def run_to_end(
    *command: str | Path, cwd: Path = TREE, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; return its exit code and what it printed."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=STEP_S,
    )


def read_version(tree: Path = TREE) -> str:
    """Return the version that the package names."""
    text = (tree / "launcher/commandline/version.py").read_text()
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise Failed('launcher/commandline/version.py has no line __version__ = "…"')
    return found[1]


def check_version(version: str, changelog: str) -> None:
    """A release has a number without a suffix, and the changelog's newest part is its own."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise Failed(f"{version} is no release: launcher/commandline/version.py says so")
    heading = next(line for line in changelog.splitlines() if line.startswith("## "))
    if not re.fullmatch(rf"## {re.escape(version)}, \d{{4}}-\d\d-\d\d", heading):
        raise Failed(
            f"CHANGELOG.md begins with {heading!r}: it has to be '## {version}, YYYY-MM-DD'"
        )


def is_version_ready(release: Release) -> None:
    check_version(release.version, (TREE / "CHANGELOG.md").read_text())


def is_tree_clean(_: Release) -> None:
    changed = run("git", "status", "--porcelain")
    if changed:
        raise Failed(f"commit or remove first:\n{changed.rstrip()}")


def build(release: Release) -> None:
    """Build from a clone, so that nothing of this folder gets in; the wheel from the sdist."""
    clone = release.work / "clone"
    run("git", "clone", "--quiet", "--no-hardlinks", TREE, clone)
    shutil.rmtree(DIST, ignore_errors=True)
    built_at = run("git", "log", "-1", "--format=%ct").strip()
    run(BIN / "python", "-m", "build", "--no-isolation", "--outdir", DIST, clone,
        SOURCE_DATE_EPOCH=built_at)  # fmt: skip


def is_reproducible(release: Release) -> None:
    """A second build, from the source distribution, gives the same wheel."""
    again = release.work / "again"
    shutil.unpack_archive(release.sdist, again / "tree", filter="data")
    (tree,) = (again / "tree").iterdir()
    built_at = run("git", "log", "-1", "--format=%ct").strip()
    run(BIN / "python", "-m", "build", "--no-isolation", "--wheel", "--outdir", again, tree,
        SOURCE_DATE_EPOCH=built_at, TZ="Asia/Kathmandu", PYTHONHASHSEED="7")  # fmt: skip
    second = again / release.wheel.name
    if sha256(release.wheel) != sha256(second):
        raise Failed(f"{release.wheel.name} built twice gives two files")


def is_metadata_valid(release: Release) -> None:
    run(BIN / "twine", "check", "--strict", release.wheel, release.sdist)


def is_wheel_complete(release: Release) -> None:
    run(BIN / "check-wheel-contents", release.wheel)


def installs(release: Release) -> None:
    """What a user does with the source distribution: install it, ask for its version, run a job."""
    run(sys.executable, "-m", "venv", release.work / "user")
    pip = [release.python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    constraints = ["--constraint", TREE / "constraints.txt"]
    run(*pip, *constraints, release.sdist)
    said = run(release.python.with_name("elrun"), "--version").strip()
    if said != f"elrun {release.version}":
        raise Failed(f"elrun --version says {said!r}")
    path = f"{release.python.parent}{os.pathsep}{os.environ['PATH']}"
    run("bash", TREE / "examples/smoke.sh", cwd=release.work, PATH=path)
    run(release.python, "-m", "pip", "check")


def list_components(release: Release) -> None:
    """Write the SBOM of what a user's environment then consists of."""
    run(BIN / "cyclonedx-py", "environment", "--output-reproducible", "--of", "JSON",
        "-o", DIST / f"elrun-{release.version}.cdx.json", release.python)  # fmt: skip


def has_no_known_hole(release: Release) -> None:
    """Ask the index for advisories about the pinned versions."""
    path = release.work / "advisories.json"
    done = run_to_end(BIN / "pip-audit", "--disable-pip", "--no-deps", "--progress-spinner", "off",
                      "--format", "json", "--output", path, "-r", audited(release))  # fmt: skip
    try:
        found = json.loads(path.read_text())["dependencies"]
    except (OSError, ValueError):  # it writes none without an answer of the index
        last = (done.stdout.strip().splitlines() or ["it printed nothing"])[-1]
        raise Unknown(f"pip-audit ended with exit code {done.returncode}: {last}") from None
    judge_advisories(found)


def judge_advisories(found: Sequence[Mapping[str, Any]]) -> None:
    """Judge what pip-audit has found of each package: a package without an answer is not well."""
    holes = [
        f"{each['name']} {each['version']}: {hole['id']}, mended in"
        f" {' or '.join(hole['fix_versions']) or 'no version yet'}"
        for each in found
        for hole in each.get("vulns", ())
    ]
    if holes:
        raise Failed("\n".join(holes))
    silent = [each["name"] for each in found if "skip_reason" in each]
    if silent:
        raise Unknown(
            f"this index has no advisories for {len(silent)} of {len(found)} packages:"
            f" {', '.join(silent)}"
        )


def audited(release: Release) -> Path:
    """Return a list of what a user's environment has, without elrun itself."""
    frozen = run(release.python, "-m", "pip", "list", "--format", "freeze", "--exclude", "elrun")
    path = release.work / "audited.txt"
    path.write_text(re.sub(r"\+\S+", "", frozen))  # 2.13.0+cpu is an index's own name for 2.13.0
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


STEPS: Sequence[tuple[str, Callable[[Release], None]]] = (
    ("all is committed", is_tree_clean),
    ("the changelog has this version and its day", is_version_ready),
    ("source distribution and wheel", build),
    ("the same wheel when it is built again", is_reproducible),
    ("metadata that an index takes (twine)", is_metadata_valid),
    ("nothing in the wheel that does not belong there (check-wheel-contents)", is_wheel_complete),
    ("the source distribution installs, and runs jobs", installs),
    ("the components of an installation (SBOM)", list_components),
    ("no known vulnerability in what is installed with it (pip-audit)", has_no_known_hole),
)


def check_all(release: Release) -> list[str]:
    """Run all steps, in their order; return the names of those that failed.

    A step that builds or installs is the ground of those after it; a version or a tree that is not
    ready ends no rehearsal. What could not be checked is noted in the release.
    """
    failed: list[str] = []
    for name, step in STEPS:
        try:
            step(release)
        except (Failed, OSError, subprocess.TimeoutExpired) as error:
            failed.append(name)
            print(f"FAILED  {name}: {error}", flush=True)
        except Unknown as why:
            release.unknown.append(name)
            print(f"UNKNOWN {name}: {why}", flush=True)
        else:
            print(f"ok      {name}", flush=True)
    return failed


def write_checksums() -> None:
    """Write ``SHA256SUMS``, as `sha256sum --check` reads it."""
    files = sorted(path for path in DIST.iterdir() if path.is_file())
    lines = [f"{sha256(path)}  {path.name}\n" for path in files]
    (DIST / "SHA256SUMS").write_text("".join(lines))


def main() -> int:
    os.umask(0o022)  # a wheel records the permissions of files
    with tempfile.TemporaryDirectory(prefix="elrun-release-") as work:
        try:
            release = Release(read_version(), Path(work))
        except Failed as error:
            print(error, file=sys.stderr)
            return 1
        failed = check_all(release)
    if failed:
        print(f"not ready: {len(failed)} of {len(STEPS)} checks failed", file=sys.stderr)
        return 1
    write_checksums()
    print(f"dist/ has elrun {release.version}; {what_next(release)}")
    return 0


def what_next(release: Release) -> str:
    """Return what is to be done with what was built."""
    if release.unknown:
        return (
            f"not checked on this machine: {'; '.join(release.unknown)}. Check it before an upload"
        )
    return "upload it with: twine upload dist/*.whl dist/*.gz"


if __name__ == "__main__":
    sys.exit(main())
