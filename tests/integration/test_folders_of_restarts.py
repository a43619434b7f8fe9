"""Folders of a restart are made while its predecessors end, and go if the restart does not come."""

import os
import signal

import pytest

LEAVES_LATE = """
import os, signal, sys, time
from pathlib import Path

attempt = Path(os.environ["TORCHELASTIC_ERROR_FILE"]).parent.parent
next_one = attempt.with_name("attempt_1")

def end(*_):
    deadline = time.monotonic() + 30
    while not next_one.is_dir() and time.monotonic() < deadline:
        time.sleep(0.01)
    sys.stdout.write(f"next: {next_one.is_dir()}\\n")
    sys.stdout.flush()
    if "stop" in sys.argv:
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(1)
    os._exit(0)

if attempt.name == "attempt_1":
    sys.exit()
if os.environ["RANK"] == "0":
    while not (attempt / "ready").exists():
        time.sleep(0.01)
    os._exit(7)
signal.signal(signal.SIGTERM, end)
(attempt / "ready").touch()
signal.pause()
"""


@pytest.mark.parametrize(("words", "end"), [((), 0), (("stop",), 128 + signal.SIGTERM)])
def test_folders_of_a_restart_are_there_before_its_predecessors_have_ended(
    elrun, script, tmp_path, words, end
):
    """A signal that ends the job meanwhile leaves none of an attempt that never was."""
    options = ("--standalone", "--nproc-per-node", 2, "--max-restarts", 1)
    logs = tmp_path / "logs"

    code, out, err = elrun(*options, "--log-dir", logs, script(LEAVES_LATE), *words).finish()

    (run_dir,) = logs.iterdir()
    attempts = ["attempt_0"] if words else ["attempt_0", "attempt_1"]
    assert (end, "next: True\n") == (code, out), err
    assert attempts == sorted(os.listdir(run_dir))
