"""``--preempt-signal``: all workers save and leave, and the job ends so that it can run again."""

import json
import os
import signal

import pytest

pytestmark = pytest.mark.integration

HOST = os.uname().nodename

# It saves while what it has started still lives.
SAVES = """
import os, signal, subprocess, sys, time

def save(number, frame):
    time.sleep(0.3)
    sys.stdout.write(f"saved {os.environ['RANK']} {helper.poll()}\\n")
    sys.exit(0)

signal.signal(signal.Signals[sys.argv[1]], save)
helper = subprocess.Popen(["sleep", "1000"])
sys.stdout.write(f"ready {os.getpid()} {os.getppid()}\\n")
while True:
    time.sleep(0.05)
"""
IGNORES = """
import signal, sys, time
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdout.write("ready\\n")
while True:
    time.sleep(0.05)
"""
RAISES = """
import signal, sys, time

def save(number, frame):
    raise ValueError("the disk is full")

signal.signal(signal.SIGUSR1, save)
sys.stdout.write("ready\\n")
while True:
    time.sleep(0.05)
"""
HANGS = "import signal, sys; sys.stdout.write('ready\\n'); signal.pause()"
FAILS = "import sys; sys.stdout.write('ready\\n'); sys.stdout.flush(); sys.exit(3)"
SLEEPS = "import sys, time; sys.stdout.write('ready\\n'); sys.stdout.flush(); time.sleep(1000)"


def saved_in(out):
    return sorted(line for line in out.splitlines() if line.startswith("saved"))


def wait_for(job, count):
    return [job.wait_for_line("ready").split() for _ in range(count)]


def meeting_at(backend, endpoint):
    return ["--rdzv-backend", backend, "--rdzv-endpoint", endpoint]


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM"])
def test_workers_save_and_the_job_can_run_again(elrun, script, tmp_path, name):
    """Its exit code is 75, and restarts that are left are not spent; a signal may come twice."""
    options = ("--nproc-per-node", 2, "--max-restarts", 3, "--preempt-signal", name)
    job = elrun(*options, "--report", "report.json", script(SAVES), name)
    wait_for(job, 2)
    job.signal(signal.Signals[name])
    job.signal(signal.Signals[name])

    code, out, err = job.finish()

    assert (75, ["saved 0 None", "saved 1 None"]) == (code, saved_in(out)), err
    assert f"elrun: preempted by {name} on {HOST}: the workers have 30 s to leave, until" in err
    assert f"elrun: preempted by {name} on {HOST}; none of its workers is left" in err
    assert "failed" not in err
    report = json.loads((tmp_path / "report.json").read_text())
    found = (report["state"], report["exit_code"], report["reason"])
    assert ("preempted", 75, f"preempted by {name} on {HOST}") == found


def test_workers_of_all_nodes_save(elrun, script, meeting):
    """Whichever agent gets the signal; the one that did is named on both."""
    command = [*meeting_at(*meeting), "--rdzv-id", "job", "--nnodes", 2, "--nproc-per-node", 2]
    path = script(SAVES)
    jobs = [elrun(*command, "--preempt-signal", "USR1", path, "SIGUSR1") for _ in range(2)]
    for job in jobs:
        wait_for(job, 2)
    jobs[1].signal(signal.SIGUSR1)

    ends = [job.finish() for job in jobs]

    saved = sorted(line for _, out, _ in ends for line in saved_in(out))
    assert ([75, 75], [f"saved {rank} None" for rank in range(4)]) == (
        [code for code, _, _ in ends],
        saved,
    ), ends
    for _, _, err in ends:
        assert f"elrun: preempted by SIGUSR1 on {HOST}; none of its workers is left" in err
        assert "aborted" not in err


def test_nodes_that_were_told_their_ranks_leave_together(elrun, script, vacant_endpoint):
    """A static rendezvous carries the news as well."""
    host, port = vacant_endpoint.split(":")
    command = ["--master-addr", host, "--master-port", port, "--nnodes", 2]
    path = script(SAVES)
    options = ("--preempt-signal", "USR1", path, "SIGUSR1")
    jobs = [elrun(*command, "--node-rank", rank, *options) for rank in range(2)]
    for job in jobs:
        wait_for(job, 1)
    jobs[0].signal(signal.SIGUSR1)

    ends = [job.finish() for job in jobs]

    assert [(75, ["saved 0 None"]), (75, ["saved 1 None"])] == [
        (code, saved_in(out)) for code, out, _ in ends
    ], ends


def test_a_worker_that_has_the_signal_does_not_get_it_again(elrun, script, tmp_path):
    """SLURM sends it to all processes: the workers must not save twice."""
    text = SAVES.replace("time.sleep(0.3)", "time.sleep(0.6); open('calls', 'a').write('x')")
    text = text.replace("sys.exit(0)", "os._exit(0) if helper.kill() is None else 0")
    job = elrun("--preempt-signal", "USR1", script(text), "SIGUSR1")
    _, worker, agent = wait_for(job, 1)[0]
    with open(f"/proc/{agent}/task/{agent}/children") as file:
        children = [int(each) for each in file.read().split()]
    for pid in {int(agent), int(worker), *children}:
        os.kill(pid, signal.SIGUSR1)

    code, _, err = job.finish()

    assert (75, "x") == (code, (tmp_path / "calls").read_text()), err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (IGNORES, "rank 0 did not leave in time and was ended"),
        (RAISES, "rank 0 failed while it left: ValueError: the disk is full"),
        (HANGS, ""),
    ],
    ids=["ignores", "raises", "dies"],
)
def test_how_workers_leave_is_no_failure_of_the_job(elrun, script, text, sentence):
    """What went wrong is named; the exit code says that the job may run again."""
    options = ("--max-restarts", 1, "--preempt-signal", "USR1", "--grace", 2)
    job = elrun(*options, script(text))
    wait_for(job, 1)
    job.signal(signal.SIGUSR1)

    code, out, err = job.finish()

    assert (75, "ready\n") == (code, out), err
    assert "the workers have 1.6 s to leave" in err
    assert (sentence in err, "rank 0" in err) == (True, bool(sentence)), err


@pytest.mark.parametrize("when", ["alone", "between attempts", "starting"])
def test_a_job_without_workers_is_preempted_too(elrun, script, vacant_endpoint, when):
    """While nodes meet, before a restart: nobody has anything to save."""
    meeting = (*meeting_at("c10d", vacant_endpoint), "--rdzv-id", "job", "--nnodes")
    options = {
        "alone": (*meeting, 2, script(SLEEPS)),
        "between attempts": (
            "--max-restarts",
            1,
            "--restart-delay",
            600,
            script(FAILS, "fails.py"),
        ),
        "starting": (script(SLEEPS),),
    }[when]
    job = elrun("--preempt-signal", "USR1", *options, env={"LOGLEVEL": "INFO"})
    sign = {"alone": "hosting", "between attempts": "restarting all", "starting": "round 0"}
    assert next(line for line in job.process.stderr if sign[when] in line)
    job.signal(signal.SIGUSR1)

    code, _, err = job.finish()

    assert 75 == code, err
    assert f"preempted by SIGUSR1 on {HOST}" in err
    assert "Traceback" not in err


def test_a_preempted_node_ends_the_wait_of_the_others(elrun, script, vacant_endpoint):
    """They would wait for a node that is about to go."""
    command = [*meeting_at("c10d", vacant_endpoint), "--rdzv-id", "job", "--nnodes", 3]
    jobs = [
        elrun(*command, "--preempt-signal", "USR1", script(SLEEPS), env={"LOGLEVEL": "INFO"})
        for _ in range(2)
    ]
    for job in jobs:
        assert next(line for line in job.process.stderr if "2 of 3" in line)
    jobs[1].signal(signal.SIGUSR1)

    ends = [job.finish() for job in jobs]

    assert [75, 75] == [code for code, _, _ in ends], ends
    assert all(f"preempted by SIGUSR1 on {HOST}" in err for _, _, err in ends), ends


def test_a_frozen_agent_does_not_keep_the_others(elrun, script, vacant_endpoint):
    """A node whose agent hears nothing is waited for until the deadline, and no longer."""
    command = [*meeting_at("c10d", vacant_endpoint), "--rdzv-id", "job", "--nnodes", 2]
    patience = ("--rdzv-conf", "heartbeat_patience=600,heartbeat_interval=1", "--grace", 2)
    options = (*patience, "--preempt-signal", "USR1", script(SAVES), "SIGUSR1")
    host = elrun(*command, *options)
    assert host.process.poll() is None
    other = elrun(*command, *options)
    for job in (host, other):
        wait_for(job, 1)
    other.signal(signal.SIGSTOP)
    host.signal(signal.SIGUSR1)

    code, out, err = host.finish()

    other.signal(signal.SIGCONT)
    assert (75, 1) == (code, len(saved_in(out))), err
    assert 0 != other.finish()[0]
