"""`elrun status` and its like, where a job is young, silent, killed, or one of several."""

import json
import os
import signal
import subprocess
import sys

import pytest
from job_kit import until
from watching_kit import WAITS, Watching


@pytest.fixture(name="watching")
def _watching(elrun, tmp_path):
    return Watching(elrun, tmp_path / "runs")


def start(watching, script, run_id, *args):
    """Start a job of one worker that waits."""
    return watching.start("--rdzv-id", run_id, *args, script(WAITS))


def test_several_jobs_are_listed(watching, script):
    """Nobody has to know their names beforehand."""
    start(watching, script, "job-a")
    start(watching, script, "job-b")

    shown = watching.run("status")
    found = json.loads(watching.run("status", "--format", "json").stdout)

    assert (0, "") == (shown.returncode, shown.stderr)
    names = {line.split()[0] for line in shown.stdout.splitlines()[1:3]}
    assert ({"job-a", "job-b"}, {"job-a", "job-b"}) == (names, {each["run_id"] for each in found})
    assert ["running"] * 2 == [each["state"] for each in found]


@pytest.mark.parametrize("verb", ["status", "stacks", "logs"])
def test_a_stopped_agent_is_named_as_silent(watching, script, verb):
    """It is not said that there is nothing to show."""
    job = watching.start("--rdzv-id", "still", script(WAITS))
    job.process.send_signal(signal.SIGSTOP)

    try:
        shown = watching.run(verb, "still")
    finally:
        job.process.send_signal(signal.SIGCONT)

    assert 1 == shown.returncode
    assert f"agent {job.process.pid}) does not answer within 5 s" in shown.stderr
    assert 1 == len(shown.stderr.splitlines())


@pytest.mark.parametrize("verb", ["status", "report"])
def test_a_job_that_was_killed_young_is_called_killed(watching, script, verb):
    """There is no report of its first seconds."""
    job = start(watching, script, "young")
    job.process.kill()
    job.process.wait()

    shown = watching.run(verb, "young")

    assert (1, "") == (shown.returncode, shown.stdout)
    assert f"agent {job.process.pid}) was killed" in shown.stderr


def test_stacks_of_a_job_that_waits_for_nodes_say_so(watching, script, vacant_endpoint):
    """No node is called silent that isn't there yet."""
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    watching.start(*meeting, "--rdzv-id", "w", script(WAITS), ready=0)

    shown = watching.run("stacks", "w")

    sentence = "elrun: run w waits for nodes, and no worker runs now\n"
    assert (1, "", sentence) == (shown.returncode, shown.stdout, shown.stderr)


def test_a_node_that_waits_for_a_lost_one_shows_none_of_the_last_round(
    watching, script, vacant_endpoint
):
    """The nodes of the round that is over are neither silent nor nameless."""
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    path = script(WAITS)
    stays, goes = [watching.start(*meeting, "--rdzv-id", "w", path, ready=n) for n in (0, 1)]
    goes.process.kill()
    until(lambda: watching.status(stays.process.pid)["state"] == "meeting")

    nodes = watching.status(stays.process.pid)["nodes"]

    assert [(None, "meeting")] == [(each["group_rank"], each["state"]) for each in nodes]


def test_a_watch_says_that_the_agent_was_killed(watching, script):
    """The last state that it has shown is not how the job stands."""
    job = start(watching, script, "young")
    with subprocess.Popen(
        [sys.executable, "-m", "elrun", "status", "--watch", "young"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **watching.env},
    ) as watch:
        watch.stdout.readline()
        job.process.kill()
        _, problem = watch.communicate()

    assert (1, True) == (watch.returncode, "was killed, and has no report" in problem)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_watch_that_nobody_reads_ends(watching, script, form):
    """As `elrun status --watch | head -1` has its line, and not only with the job."""
    job = start(watching, script, "read")

    shown = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m elrun status --watch --format {form} | head -1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **watching.env},
    )

    assert (0, "", 1) == (shown.returncode, shown.stderr, len(shown.stdout.splitlines()))
    assert job.process.poll() is None


def test_logs_that_nobody_reads_are_no_fault(watching, script):
    """Standard output is closed."""
    start(watching, script, "read")

    shown = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m elrun logs read >&-"],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, **watching.env},
    )

    assert (0, "") == (shown.returncode, shown.stderr)
