"""A preemption in the midst of trouble: nodes that are gone, further signals, a SLURM that lies."""

import os
import re
import signal
import subprocess
import threading

import pytest

pytestmark = pytest.mark.integration

# It saves once that is allowed to its node.
SAVES = """
import os, signal, sys, time

def save(number, frame):
    sys.stdout.write(f"saving {os.getpid()}\\n")
    while not os.path.exists("save" + os.environ["GROUP_RANK"]):
        time.sleep(0.02)
    sys.stdout.write(f"saved {os.environ['RANK']}\\n")
    sys.exit(0)

signal.signal(signal.SIGUSR1, save)
signal.signal(signal.SIGTERM, lambda *_: sys.stdout.write("SIGTERM\\n"))
sys.stdout.write(f"ready {os.getpid()}\\n")
while True:
    time.sleep(0.02)
"""
# SLURM queues a job again once, whoever asks.
SCONTROL = """
[ "$1" = requeue ] && exec mkdir "$FOLDER/requeued"
[ -e "$FOLDER/requeued" ] && echo JobState=COMPLETING Restarts=0 && exit
echo JobState=RUNNING Reason=None Restarts=0
"""
AGAIN = "job 7 is queued again\n"


def program_of_slurm(tmp_path, name, text):
    path = tmp_path / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def job_of_slurm(tmp_path):
    """Return the variables of a job of SLURM's whose programs stand first on the PATH."""
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {"SLURM_JOB_ID": "7", "PATH": path, "SLURM_CONF": os.devnull, "FOLDER": str(tmp_path)}


@pytest.fixture(name="start_nodes")
def _start_nodes(elrun, script, vacant_endpoint, tmp_path):
    """Start nodes of one job of SLURM's, the host of the store first."""
    program_of_slurm(tmp_path, "scontrol", SCONTROL)
    program_of_slurm(tmp_path, "squeue", "exit 1")
    meeting = ("--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint, "--rdzv-id", "job")
    wishes = ("--preempt-signal", "USR1", "--requeue")

    def start(count, *options):
        command = (*meeting, *wishes, "--nnodes", count, *options, script(SAVES))
        known = job_of_slurm(tmp_path) | {"LOGLEVEL": "INFO"}
        nodes = []
        for node_id in range(count):
            nodes.append(elrun(*command, env=known | {"SLURM_NODEID": str(node_id)}))
            if not node_id:
                assert next(line for line in nodes[0].process.stderr if "hosting" in line)
        for node in nodes:
            node.wait_for_line("ready")
        return nodes

    return start


def let_save(tmp_path, *group_ranks):
    for group_rank in group_ranks:
        (tmp_path / f"save{group_rank}").touch()


def ends_of(nodes):
    return [node.finish() for node in nodes]


@pytest.mark.parametrize("killed", [0, 1], ids=["the host", "another"])
def test_an_agent_that_is_killed_meanwhile_keeps_nobody(start_nodes, tmp_path, killed):
    """The others' workers save, all leave by the deadline, and one has the job queued again."""
    nodes = start_nodes(3, "--grace", 15)
    nodes[0].signal(signal.SIGUSR1)
    for node in nodes:
        node.wait_for_line("saving")
    lost = nodes.pop(killed)
    lost.signal(signal.SIGKILL)
    lost.process.wait()
    let_save(tmp_path, 0, 1, 2)

    ends = ends_of(nodes)

    assert [(75, True)] * 2 == [(code, "saved" in out) for code, out, _ in ends], ends
    assert 1 == sum(err.count(AGAIN) for _, _, err in ends), ends
    assert not any("Traceback" in err for _, _, err in ends), ends


@pytest.mark.parametrize("restarts", [0, 1])
def test_nodes_that_wait_for_a_lost_one_are_preempted(start_nodes, restarts):
    """There is nobody to save; the job can run again."""
    options = ("--max-restarts", restarts, "--rdzv-conf", "join_timeout=600")
    nodes = start_nodes(3, *options, "--shutdown-timeout", 0)
    nodes[2].signal(signal.SIGKILL)
    nodes.pop().process.wait()
    assert next(line for line in nodes[0].process.stderr if "2 of 3" in line)
    for node in nodes:
        node.signal(signal.SIGUSR1)

    ends = ends_of(nodes)

    assert [75, 75] == [code for code, _, _ in ends], ends
    assert all(f"preempted by SIGUSR1 on {os.uname().nodename}" in err for _, _, err in ends), ends
    assert 1 == sum(err.count(AGAIN) for _, _, err in ends), ends


def test_nodes_that_have_lost_the_first_one_are_preempted(start_nodes):
    """The signal comes while they stop their workers, for want of a store; they are no failure."""
    nodes = start_nodes(3, "--shutdown-timeout", 5)
    nodes[0].signal(signal.SIGKILL)
    nodes.pop(0).process.wait()
    for node in nodes:
        node.wait_for_line("SIGTERM")
        node.signal(signal.SIGUSR1)

    ends = ends_of(nodes)

    assert [75, 75] == [code for code, _, _ in ends], ends
    assert all("the rendezvous had failed when the signal came" in err for _, _, err in ends), ends
    assert 1 == sum(err.count(AGAIN) for _, _, err in ends), ends


def test_no_node_ends_before_the_workers_of_all_have_left(start_nodes, tmp_path):
    """``srun --kill-on-bad-exit`` and ``mpirun`` would end those that still save."""
    nodes = start_nodes(2)
    nodes[0].signal(signal.SIGUSR1)
    for node in nodes:
        node.wait_for_line("saving")
    let_save(tmp_path, 1)
    second = nodes[1]
    second.wait_for_line("saved")

    with pytest.raises(subprocess.TimeoutExpired):
        second.process.wait(1.5)
    let_save(tmp_path, 0)

    assert [(75, True)] * 2 == [(code, "saved" in out) for code, out, _ in ends_of(nodes)]


@pytest.mark.parametrize("numbers", [[signal.SIGTERM] * 2, [signal.SIGHUP], [signal.SIGUSR1] * 2])
def test_further_signals_change_nothing(elrun, script, tmp_path, numbers):
    """A scheduler adds SIGTERM at its limit: workers have the time that they were given."""
    job = elrun("--preempt-signal", "USR1", script(SAVES))
    job.wait_for_line("ready")
    job.signal(signal.SIGUSR1)
    job.wait_for_line("saving")
    for number in numbers:
        job.signal(number)
    let_save(tmp_path, 0)

    code, out, err = job.finish()

    assert (75, ["saved 0"]) == (code, out.splitlines()[-1:]), err
    assert "SIGTERM" not in out


def test_a_person_may_end_the_wait(elrun, script):
    """Ctrl-C, twice: nothing is saved, and the job still counts as preempted."""
    job = elrun("--preempt-signal", "USR1", "--shutdown-timeout", 600, script(SAVES))
    job.wait_for_line("ready")
    job.signal(signal.SIGUSR1)
    job.wait_for_line("saving")
    threading.Event().wait(0.6)  # sooner, it might be an echo
    job.signal(signal.SIGINT)

    code, out, err = job.finish()

    assert (75, False) == (code, "saved" in out), err


IN_TEN_MINUTES = """
[ "$SLURM_TIME_FORMAT $*" = "standard --noheader --jobs 7 -O EndTime:32" ] || exit
exec date -d '10 minutes' +%Y-%m-%dT%H:%M:%S
"""


@pytest.mark.parametrize(
    ("squeue", "variables", "share", "why"),
    [
        (IN_TEN_MINUTES, {}, (500, 600), " (the SLURM job's end)"),
        ("echo NONE", {}, (25, 25), ""),
        ("echo invalid job >&2; exit 1", {}, (25, 25), ""),
        ("exec sleep 1000", {}, (25, 25), ""),
        ("echo 2001-01-01T00:00:00", {}, (25, 25), ""),
        ("exit 9", {"SLURM_JOB_END_TIME": "4102444800"}, (1e6, 1e10), " (the SLURM job's end)"),
        ("exit 9", {"SLURM_JOB_END_TIME": "soon"}, (25, 25), ""),
    ],
    ids=["answers", "no limit", "fails", "hangs", "is late", "not asked", "variable"],
)
def test_slurm_says_until_when(elrun, script, tmp_path, squeue, variables, share, why):
    """If it does; else the usual time holds. The line that announces the end says which."""
    program_of_slurm(tmp_path, "squeue", squeue)
    known = job_of_slurm(tmp_path) | {"SLURM_TIME_FORMAT": "%H:%M"} | variables
    job = elrun("--preempt-signal", "USR1", script(SAVES), env=known)
    job.wait_for_line("ready")
    let_save(tmp_path, 0)
    job.signal(signal.SIGUSR1)

    code, out, err = job.finish()

    assert (75, True) == (code, "saved 0" in out), err
    said = re.search(r"the workers have (\S+) s to leave, until \S+?( \(.*)?$", err, re.MULTILINE)
    assert said is not None, err
    assert share[0] <= float(said[1]) <= share[1]
    assert why == (said[2] or "")
