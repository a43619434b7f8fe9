"""``--signal-to``: a worker is signalled before what it has started, or together with it."""

import signal

import pytest

pytestmark = pytest.mark.integration

# What it has started dies of the signal, or lives until the worker has saved.
SAVES = """
import os, signal, subprocess, sys, time

def save(number, frame):
    try:
        helper.wait(1)
        fate = "gone"
    except subprocess.TimeoutExpired:
        fate = "there"
    sys.stdout.write(f"saved with its helper {fate}\\n")
    saved.append(number)
    if sys.argv[2] == "leaves":
        sys.exit(0)

saved, helper = [], subprocess.Popen(["sleep", "1000"])
signal.signal(signal.Signals[sys.argv[1]], save)
sys.stdout.write("ready\\n")
while not saved:  # it may have been signalled by now
    time.sleep(0.02)
helper.kill()
"""
TO_PREEMPT = ("--preempt-signal", "USR1")
TO_FORWARD = ("--forward-signals", "USR1")
MAIN, GROUP = ("--signal-to", "main"), ("--signal-to", "group")


@pytest.mark.parametrize(
    ("options", "name", "code", "fate"),
    [
        (TO_PREEMPT, "SIGUSR1", 75, "there"),
        ((*TO_PREEMPT, *MAIN), "SIGUSR1", 75, "there"),
        ((*TO_PREEMPT, *GROUP), "SIGUSR1", 75, "gone"),
        (("--preempt-signal", "TERM"), "SIGTERM", 75, "there"),
        (("--preempt-signal", "USR1,TERM"), "SIGTERM", 75, "there"),
        (("--preempt-signal", "USR1,TERM"), "SIGUSR1", 75, "there"),
        (TO_FORWARD, "SIGUSR1", 0, "there"),
        ((*TO_FORWARD, *MAIN), "SIGUSR1", 0, "there"),
        ((*TO_FORWARD, *GROUP), "SIGUSR1", 0, "gone"),
        ((), "SIGTERM", 143, "gone"),
        (MAIN, "SIGTERM", 143, "there"),
        (GROUP, "SIGTERM", 143, "gone"),
        (MAIN, "SIGINT", 130, "there"),
        ((*MAIN, "--preload", "json"), "SIGTERM", 143, "there"),
    ],
)
def test_who_is_signalled_first(elrun, script, options, name, code, fate):
    """By default a signal that lets workers save goes to them alone, one that ends them to all."""
    job = elrun(*options, script(SAVES), name, "stays" if code == 0 else "leaves")
    job.wait_for_line("ready")
    job.signal(signal.Signals[name])

    found, out, err = job.finish()

    assert (code, f"saved with its helper {fate}") == (found, out.splitlines()[-1]), err


IGNORES = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", '''
import signal, sys, time
def end(*_):
    sys.stdout.write("helper asked\\\\n")
    sys.exit()
signal.signal(signal.SIGTERM, end)
sys.stdout.write("ready\\\\n")
sys.stdout.flush()
time.sleep(1000)
'''])
time.sleep(1000)
"""


def test_what_it_has_started_is_asked_at_the_deadline(elrun, script):
    """A worker that does not end keeps nobody from being asked."""
    job = elrun("--signal-to", "main", "--shutdown-timeout", 1, script(IGNORES))
    job.wait_for_line("ready")
    job.signal(signal.SIGTERM)

    code, out, err = job.finish()

    assert (143, "helper asked") == (code, out.splitlines()[-1]), err
    assert "rank 0" in err


def test_who_else_would_be_signalled_is_refused(elrun, script):
    """With the words that there are."""
    code, _, err = elrun("--signal-to", "children", script(SAVES)).finish()

    assert 2 == code
    assert "--signal-to children: give main or group" in err
