"""How scripts end under ``--run-path``: nothing that they have written is lost."""

import subprocess
import sys

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
