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
    for pid in [*{int(worker), *children_of(int(agent))}, int(agent)]:
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


def meeting_at(backend, endpoint):
    return ["--rdzv-backend", backend, "--rdzv-endpoint", endpoint]


@pytest.fixture(name="nodes")
def _nodes(elrun, script, meeting):
    """Start the agents of one job of two nodes; each has two workers, which are ready."""

    def start(text, *options):
        path = script(text)
        command = [
            *meeting_at(*meeting),
            "--rdzv-id",
            "job",
            "--nnodes",
            2,
            "--nproc-per-node",
            2,
            *options,
        ]
        jobs = [elrun(*command, "--forward-signals", "USR1", path) for _ in range(2)]
        for job in jobs:
            wait_for(job, 2)
        return jobs

    return start


def saved_by(jobs):
    """Return exit codes, what workers said of saving, and standard error."""
    ends = [job.finish() for job in jobs]
    said = [line for _, out, _ in ends for line in out.splitlines() if line.startswith("saved")]
    return [code for code, _, _ in ends], sorted(said), "".join(err for _, _, err in ends)


def test_workers_of_all_nodes_get_it_whichever_agent_does(nodes):
    """One agent tells the other; what workers have started is left alone there, too."""
    jobs = nodes(COUNTS)
    jobs[1].signal(signal.SIGUSR1)

    codes, said, err = saved_by(jobs)

    assert ([0, 0], [f"saved {rank} None" for rank in range(4)]) == (codes, said), err
    assert f"SIGUSR1 came to {os.uname().nodename}: it is passed on to 2 workers" in err


# It says how often it was signalled once that the second kind of signal has come.
UNTIL_TOLD = """
import os, signal, sys
got, told = [], []
signal.signal(signal.SIGUSR1, lambda number, _: got.append(number))
signal.signal(signal.SIGUSR2, lambda number, _: told.append(number))
sys.stdout.write(f"ready {os.getpid()} {os.getppid()}\\n")
shown = 0
while not told:
    signal.sigtimedwait([], 0.05)
    if len(got) > shown:
        shown = len(got)
        sys.stdout.write(f"got {shown}\\n")
sys.stdout.write(f"saved {os.environ['RANK']} {len(got)}\\n")
"""


@pytest.mark.parametrize("to", ["agents", "all processes"])
def test_what_comes_to_all_nodes_reaches_each_worker_once(elrun, script, meeting, to):
    """A scheduler signals every node; each signal is one, and two are two."""
    path = script(UNTIL_TOLD)
    options = ["--rdzv-id", "job", "--nnodes", 2, "--forward-signals", "USR1,USR2", path]
    command = [*meeting_at(*meeting), *options]
    jobs = [elrun(*command) for _ in range(2)]
    workers = [[int(word) for word in wait_for(job, 1)[0].split()[1:]] for job in jobs]
    for count in (1, 2):
        for worker, agent in workers:
            pids = {worker, *children_of(agent)} if to == "all processes" else set()
            for pid in [*pids, agent]:  # a loaded machine may pause this loop for a second
                os.kill(pid, signal.SIGUSR1)
        for job in jobs:
            job.wait_for_line(f"got {count}")
            assert next(line for line in job.process.stderr if "SIGUSR1" in line)
    os.kill(workers[0][1], signal.SIGUSR2)

    codes, said, err = saved_by(jobs)

    assert ([0, 0], ["saved 0 2", "saved 1 2"]) == (codes, said), err
