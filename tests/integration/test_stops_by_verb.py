"""`elrun stop` says which job it stops, and what the agents say of it is true."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from watching_kit import WAITS, Watching

STUBBORN = f"""
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
{WAITS}
"""


@pytest.fixture(name="watching")
def _watching(elrun, tmp_path):
    return Watching(elrun, tmp_path / "runs")


def test_a_stop_names_the_script_its_age_and_its_workers(watching, script):
    """Without a name the only job that runs is meant: a person sees at once which that was."""
    job = watching.start("--rdzv-id", "mine", "--nproc-per-node", 2, script(WAITS), ready=2)

    done = watching.run("stop")

    first, last = done.stderr.splitlines()
    assert re.fullmatch(
        r"elrun: run mine \(script\.py, started (now|.* ago) in /.*, 2 workers\) is being stopped: "
        r"its workers have 30 s to end",
        first,
    )
    assert "elrun: run mine has been stopped" == last
    assert (0, 143) == (done.returncode, job.finish()[0])


def on_a_terminal(watching, folder, answer):
    """Run a bare `elrun stop` on a terminal of its own; return its exit code and its screen."""
    control, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "elrun", "stop"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=folder,
        env={**os.environ, **watching.env},
        start_new_session=True,
    )
    os.close(terminal)
    os.write(control, answer)
    screen = b""
    try:
        while text := os.read(control, 4096):
            screen += text
    except OSError:  # the terminal has gone
        pass
    os.close(control)
    return process.wait(), screen.decode()


def test_a_person_is_asked_before_a_job_of_elsewhere_is_stopped(watching, script, tmp_path):
    """Without a name the only job is meant, and it may be another one than the person thinks of."""
    job = watching.start("--rdzv-id", "mine", script(WAITS))
    there = Path(f"/proc/{job.process.pid}/cwd").resolve()

    code, screen = on_a_terminal(watching, "/", b"n\n")

    assert 1 == code
    assert re.search(
        rf"elrun: stop run mine \(script\.py, started .* in {there}\)\? \[y/N\]", screen
    )
    assert f"elrun: mine (script.py, agent {job.process.pid}) goes on" in screen
    assert job.process.poll() is None

    code, screen = on_a_terminal(watching, "/", b"y\n")

    assert (0, 143) == (code, job.finish()[0])
    assert "elrun: run mine has been stopped" in screen


def test_nobody_is_asked_about_a_job_of_the_same_folder(watching, script):
    """It is the one that the person thinks of."""
    job = watching.start("--rdzv-id", "mine", script(WAITS))

    code, screen = on_a_terminal(watching, Path(f"/proc/{job.process.pid}/cwd").resolve(), b"")

    assert (0, 143) == (code, job.finish()[0])
    assert "[y/N]" not in screen


def test_workers_that_elrun_stop_kills_are_not_said_to_be_killed_by_a_ctrl_c(watching, script):
    """Nobody has pressed one."""
    job = watching.start("--rdzv-id", "mine", script(STUBBORN))

    done = watching.run("stop", "--now")

    code, _, err = job.finish()
    assert (0, 143) == (done.returncode, code), done
    assert "`elrun stop --now` came: killed: rank 0: pid " in err
    assert "Ctrl-C" not in err


def test_a_stop_by_the_verb_is_no_signal(watching, script):
    """While the workers end, it is said why."""
    job = watching.start("--rdzv-id", "mine", "--shutdown-timeout", 3, script(STUBBORN))

    watching.run("stop")

    _, _, err = job.finish()
    assert "elrun: `elrun stop`: the workers have 3 s to end" in err
    assert "SIGTERM: the workers" not in err


def test_an_agent_that_is_stopped_stops_its_job_once_it_goes_on(watching, script):
    """The request waits for it; so that is said, and how it can go on."""
    job = watching.start("--rdzv-id", "still", script(WAITS))
    job.process.send_signal(signal.SIGSTOP)
    try:
        done = watching.run("stop")
    finally:
        job.process.send_signal(signal.SIGCONT)

    pid = job.process.pid
    assert (1, "") == (done.returncode, done.stdout)
    assert (
        f"elrun: the agent of still (script.py, agent {pid}) does not answer within 5 s: it is "
        f"stopped (SIGSTOP, or a debugger): kill -CONT {pid} lets it go on; then it stops the job\n"
    ) == done.stderr
    assert 143 == job.finish()[0]


def test_of_two_agents_the_one_that_is_stopped_is_named(watching, script, vacant_endpoint):
    """The other one ends the job meanwhile; the command does not wait for what can't end."""
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    path = script(WAITS)
    jobs = [watching.start(*meeting, "--rdzv-id", "w", path, ready=n) for n in (0, 1)]
    jobs[1].process.send_signal(signal.SIGSTOP)
    try:
        done = watching.run("stop", "w")
    finally:
        jobs[1].process.send_signal(signal.SIGCONT)

    assert [143, 143] == [job.finish()[0] for job in jobs]
    assert (1, True) == (done.returncode, "is being stopped" in done.stderr), done
    assert f"kill -CONT {jobs[1].process.pid}" in done.stderr
