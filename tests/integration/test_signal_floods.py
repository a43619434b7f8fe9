"""Signals that come faster than they can be handled: they cost time, and never the job."""

import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

pytestmark = pytest.mark.integration

SENDER = """
import os, signal, sys, time
pid, number = map(int, sys.argv[1:])
end = time.monotonic() + 2
while time.monotonic() < end:
    for _ in range(1000):
        os.kill(pid, number)
"""
# What elrun says: a pipe that nobody reads would hold it up.
TO_A_FILE = ("bash", "-c", 'exec "$@" 2> errors', "bash")
UNTIL_TOLD = """
import os, signal, sys, time
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
def leave(*_):
    os.write(1, b"saved\\n")
    os._exit(0)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, leave)
os.write(1, b"ready\\n")
while not os.path.exists("go"):
    time.sleep(0.05)
os.write(1, b"went on\\n")
"""


@contextmanager
def flood(job, number):
    """Send a signal from two processes as fast as they can, for two seconds."""
    command = [sys.executable, "-c", SENDER, str(job.process.pid), str(int(number))]
    senders = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(2)]
    yield
    for sender in senders:  # one whose target has ended fails
        sender.wait()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD])
def test_a_flood_that_ends_nothing_ends_nothing(elrun, script, tmp_path, number):
    """Requests, signals of the workers, and what looks like the ends of children."""
    job = elrun(
        "--nproc-per-node", 2, "--forward-signals", "USR1", script(UNTIL_TOLD), prefix=TO_A_FILE
    )
    for _ in range(2):
        job.wait_for_line("ready")
    with flood(job, number):
        pass
    (tmp_path / "go").touch()
    code, out, _ = job.finish()

    said = (tmp_path / "errors").read_text()
    assert (0, 2) == (code, out.count("went on")), said[-3000:]
    assert "fault" not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_flood_of_ending_signals_ends_the_job_once(elrun, script, tmp_path, number):
    """It is the first one that counts, and the exit code is that signal's."""
    job = elrun("--nproc-per-node", 2, script(UNTIL_TOLD), prefix=TO_A_FILE)
    for _ in range(2):
        job.wait_for_line("ready")
    with flood(job, number):
        code, out, _ = job.finish()

    said = (tmp_path / "errors").read_text()
    assert 128 + number == code, said[-3000:]
    assert "fault" not in said
    if number != signal.SIGINT:  # a second one of a person means: at once
        assert 2 == out.count("saved"), said[-3000:]
