"""Orphans that elrun adopts while a job runs, also as all the init that a container has."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

# Whoever adopts an orphan that has ended must reap it, or its pid is never free again.
LEAVE_ORPHANS = """
import os, subprocess
for how in ("", "setsid "):
    shell = f"{how} sleep 0.01 > /dev/null & echo $!"
    orphan = int(subprocess.check_output(["sh", "-c", shell]))
    while os.path.exists(f"/proc/{orphan}"):
        os.sched_yield()
    print("reaped", flush=True)
"""
HANG = """
import os, signal
print("ready, adopted by", os.getppid(), flush=True)
signal.pause()
"""
AS_INIT = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def can_be_init():
    try:
        return subprocess.run([*AS_INIT, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture(name="as_init", scope="module")
def _as_init():
    if not can_be_init():
        pytest.skip("no namespaces of processes can be made here")
    return AS_INIT


def test_orphans_are_reaped_while_the_job_runs(elrun, script):
    """In the worker's session or out of it; a long job would use up all process ids."""
    assert (0, "reaped\nreaped\n", "") == elrun(script(LEAVE_ORPHANS)).finish()


def test_as_init_elrun_reaps_what_a_container_leaves_behind(elrun, script, as_init):
    """Nobody else is there to do it."""
    assert (0, "reaped\nreaped\n", "") == elrun(script(LEAVE_ORPHANS), prefix=as_init).finish()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_as_init_elrun_hears_signals(elrun, script, as_init, number):
    """The kernel keeps from an init whatever it has no handler for."""
    job = elrun(script(HANG), prefix=as_init)
    assert "ready, adopted by 1" == job.wait_for_line("ready")
    pid = job.process.pid
    (init,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    os.kill(int(init), number)

    code, _, err = job.finish()
    assert (128 + number, 1) == (code, err.count(f"elrun: stopped by {number.name}"))
