"""``--forward-signals``: a scheduler's "save now" reaches the workers, and the job goes on."""

import os
import signal

import pytest

pytestmark = pytest.mark.integration

COUNTS = """
import os, signal, subprocess, sys
got = []
signal.signal(signal.SIGUSR1, lambda number, _: got.append(number))
helper = subprocess.Popen(["sleep", "1000"])
sys.stdout.write("ready\\n")  # by one call each: two workers share the pipe
while not got:
    signal.pause()
sys.stdout.write(f"saved {os.environ['RANK']} {helper.poll()}\\n")
helper.kill()
"""
TWICE = """
import os, signal, sys, time
got = []
signal.signal(signal.SIGUSR1, lambda number, _: got.append(number))
print("ready", os.getpid(), os.getppid(), flush=True)
while not os.path.exists("enough"):
    time.sleep(0.05)
print("got", len(got), flush=True)
"""


def wait_for(job, count, start="ready"):
    return [job.wait_for_line(start) for _ in range(count)]


@pytest.mark.parametrize("options", [(), ("--preload", "json")], ids=["plain", "preloaded"])
def test_each_worker_gets_it_and_the_job_goes_on(elrun, script, options):
    """The worker alone: what it has started might die of it."""
    job = elrun("--nproc-per-node", 2, "--forward-signals", "USR1", *options, script(COUNTS))
    wait_for(job, 2)
    job.signal(signal.SIGUSR1)

    code, out, err = job.finish()

    assert (0, ["saved 0 None", "saved 1 None"]) == (
        code,
        sorted(line for line in out.splitlines() if line.startswith("saved")),
    ), err
    assert "SIGUSR1 is passed on to 2 workers; the job goes on" in err


def test_what_came_to_all_processes_is_not_passed_on(elrun, script, tmp_path):
    """SLURM signals each process of a step: a worker must not save twice."""
    job = elrun("--forward-signals", "USR1,USR2", script(TWICE))
    _, worker, agent = wait_for(job, 1)[0].split()
    everyone = {int(worker), int(agent), *children_of(int(agent))}
    for pid in everyone:
        os.kill(pid, signal.SIGUSR1)
    line = next(each for each in job.process.stderr if "SIGUSR1 came to all processes" in each)
    (tmp_path / "enough").touch()

    code, out, err = job.finish()

    assert line
    assert (0, "got 1") == (code, out.splitlines()[-1]), err
    assert "passed on" not in err


def test_under_slurm_the_usual_ones_are_passed_on(elrun, script):
    """Without a word of the user's: they mean anything but the end of elrun."""
    job = elrun(script(COUNTS), env={"SLURM_JOB_ID": "7"})
    wait_for(job, 1)
    job.signal(signal.SIGUSR1)

    code, out, err = job.finish()

    assert (0, "saved 0 None") == (code, out.splitlines()[-1]), err


def test_without_them_the_signal_ends_elrun_as_ever(elrun, script):
    """As it ends torchrun: on a workstation, nothing else is expected."""
    job = elrun(script(COUNTS))
    wait_for(job, 1)
    job.signal(signal.SIGUSR1)

    assert -signal.SIGUSR1 == job.finish()[0]


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(each) for each in file.read().split()]
