"""`elrun stacks --native`, with the real py-spy."""

import os
import re
import shutil
import signal
import sys

import pytest
from watching_kit import Watching

HAS_PY_SPY = shutil.which("py-spy") or shutil.which("py-spy", path=os.path.dirname(sys.executable))
needs_py_spy = pytest.mark.skipif(not HAS_PY_SPY, reason="there is no py-spy (pip install py-spy)")

SLEEPS = """
import os, threading

def load_batch():
    threading.Event().wait()

os.write(1, b"ready\\n")
load_batch()
"""


@pytest.fixture(name="watching")
def _watching(elrun, tmp_path):
    return Watching(elrun, tmp_path / "runs")


@needs_py_spy
def test_native_frames_are_shown(watching, script):
    """Those of the interpreter and of the C library, around Python's own; the job goes on."""
    job = watching.start("--standalone", "--nproc-per-node", 2, script(SLEEPS), ready=2)

    done = watching.run("stacks", "--native")
    again = watching.run("stacks")
    job.signal(signal.SIGTERM)
    job.finish()

    if "Permission" in done.stderr or "ptrace" in done.stderr:
        pytest.skip("this machine lets nobody look into processes")
    assert (0, "") == (done.returncode, done.stderr)
    assert ["ranks 0-1"] == re.findall(r"^ranks? [\d, -]+\d", done.stdout, re.MULTILINE)
    assert re.search(r"^ +load_batch \(script\.py:5\)$", done.stdout, re.MULTILINE)
    assert re.search(r"\(lib(c|python3)[.\w-]*so[.\d]*\)$", done.stdout, re.MULTILINE), done
    assert (0, False) == (again.returncode, "libc" in again.stdout)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (None, "py-spy is not installed (pip install py-spy): no native frames"),
        ("echo no right >&2; exit 1", "no native frames of ranks 0-1: py-spy: no right"),
        ("exit 3", "no native frames of ranks 0-1: py-spy: exit code 3"),
    ],
)
def test_without_py_spy_python_s_frames_are_shown(
    watching, script, tmp_path, monkeypatch, program, reason
):
    """One sentence says why there are no more, however many ranks there are."""
    folder = tmp_path / "bin"
    folder.mkdir()
    if program is not None:
        (folder / "py-spy").write_text(f"#!/bin/sh\n{program}\n")
        (folder / "py-spy").chmod(0o755)
    job = watching.start("--standalone", "--nproc-per-node", 2, script(SLEEPS), ready=2)
    (folder / "python").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))

    done = watching.run(
        "stacks",
        "--native",
        env={"PATH": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    job.signal(signal.SIGTERM)
    job.finish()

    assert (0, f"elrun: {reason}\n") == (done.returncode, done.stderr)
    assert 'script.py", line 5 in load_batch' in done.stdout
