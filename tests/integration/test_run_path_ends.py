"""How scripts end under ``--run-path``: nothing that they have written is lost."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ENDS = {
    "raises": "raise ValueError('x')",
    "exits": "sys.exit(3)",
    "exits with a large number": "sys.exit(2**31)",
    "exits with a larger number": "sys.exit(2**64)",
    "exits with text": "sys.exit('no')",
    "is interrupted": "raise KeyboardInterrupt",
    "returns": "",
    "recurses": "def f(): f()\nf()",
    "has a broken exit function": "import atexit; atexit.register(lambda: 1/0)",
}
SCRIPT = """
import ctypes, sys
{torch}
out = open("o.csv", "w")
def keep(out=out):
    out.write("1,0.5\\n")
ctypes.CDLL(None).printf(b"of C\\n")
keep()
{end}
"""
TORCH = "import types; sys.modules['torch'] = types.ModuleType('torch')"


@pytest.mark.parametrize("torch", ["", TORCH], ids=["plain", "torch"])
@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
@pytest.mark.parametrize("end", ENDS)
def test_a_script_ends_as_under_python(elrun, script, tmp_path, end, method, torch):
    """With the same exit code, and the same in its files and on its standard output."""
    program = script(SCRIPT.format(torch=torch, end=ENDS[end]))
    alone = subprocess.run(
        [sys.executable, program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    written = (tmp_path / "o.csv").read_text()
    (tmp_path / "o.csv").unlink()

    code, out, err = elrun("--run-path", "--start-method", method, program).finish()

    assert (alone.returncode % 256 or 0, "of C\n") == (code if code != 130 else 254, out)
    assert written == (tmp_path / "o.csv").read_text() == "1,0.5\n"
    assert "fault in elrun" not in err


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_an_exit_has_the_place_where_the_script_has_left(elrun, script, method):
    """Not that of multiprocessing's own exit."""
    program = script("import sys\ndef check():\n    sys.exit(3)\ncheck()")

    code, _, err = elrun("--run-path", "--start-method", method, program).finish()

    assert 3 == code
    assert f"it raised SystemExit(3) in check ({program}, line 3)" in err


def test_a_temporary_folder_with_too_long_a_name_is_named(elrun, script, tmp_path):
    """The fork server of multiprocessing has its socket there, if Python knows no better place."""
    folder = tmp_path / ("d" * 100)
    folder.mkdir()
    options = ("--run-path", "--start-method", "forkserver", script("pass"))

    code, _, err = elrun(*options, env={"TMPDIR": str(folder)}).finish()

    assert 0 == code or "AF_UNIX path too long; give a shorter TMPDIR" in err


def test_a_fork_server_that_has_ended_is_named(script, tmp_path):
    """A file of the user's stands in the place of a module that the server needs."""
    (tmp_path / "selectors.py").write_text("raise SystemExit(5)")
    command = Path(sys.executable).with_name("elrun")  # whose import path has not this folder
    options = ("--run-path", "--start-method", "forkserver", script("pass"))

    done = subprocess.run(
        [command, *options], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert 126 == done.returncode, done.stderr
    assert "no process for local rank 0: multiprocessing's fork server has ended" in done.stderr
