"""Preemptions on a real SLURM in the midst of trouble, and job arrays."""

import contextlib
import os
import re
import signal
from pathlib import Path

import pytest
from job_kit import until
from slurm_kit import ENDED, MARKS, SAY, cluster_in

pytestmark = MARKS

# It saves once that is allowed to its rank; when it runs again, it ends well.
SAVES = """
import os, signal, sys, time

rank = os.environ["RANK"]

def save(*_):
    open(f"saving{rank}", "w").close()
    while not os.path.exists(f"save{rank}"):
        time.sleep(0.05)
    open(f"saved{rank}", "w").close()
    sys.exit(0)

if os.environ["ELRUN_TOTAL_RESTARTS"] == "1":
    sys.exit(0)
signal.signal(signal.SIGUSR1, save)
open(f"ready{rank}", "w").close()
while True:
    time.sleep(0.05)
"""


@pytest.fixture(scope="module", name="cluster")
def _cluster(tmp_path_factory):
    with cluster_in(tmp_path_factory.mktemp("slurm"), "KillWait=30") as cluster:
        yield cluster


class Saving:
    """A job of two nodes whose workers are about to save, as SIGUSR1 has come to all.

    Args:
        cluster: Where it runs.
        folder: The folder in which they work.
        srun: Options of srun's.
    """

    def __init__(self, cluster, folder, srun=""):
        self._cluster, self._folder = cluster, folder
        (folder / "saves.py").write_text(SAVES)
        options = "--preempt-signal USR1 --requeue --grace 15"
        known = ("--parsable", "--nodes=2", "--ntasks-per-node=1", "--requeue")
        places = (f"--output={folder}/output", "--open-mode=append", f"--chdir={folder}")
        command = f"srun {srun} elrun {options} saves.py"
        self.id = cluster.run("sbatch", *known, *places, "--wrap", command).strip()
        self.wait_for("ready0", "ready1")
        cluster.run("scancel", "--signal=USR1", self.id)
        self.wait_for("saving0", "saving1")

    def wait_for(self, *names):
        until(lambda: all((self._folder / name).exists() for name in names))

    def let_save(self, *ranks):
        for rank in ranks:
            (self._folder / f"save{rank}").touch()

    def kill_elrun_on(self, node):
        """Kill the agent with SIGKILL, as the kernel does where memory runs out."""
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                variables = Path("/proc", entry, "environ").read_bytes().split(b"\0")
                words = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            is_ours = {f"SLURM_JOB_ID={self.id}".encode(), f"SLURMD_NODENAME={node}".encode()}
            if not is_ours <= set(variables) or b"--requeue" not in words or b"srun" in words:
                continue
            # A job of another test's cluster may have this number, and a node this name.
            with contextlib.suppress(OSError):  # it has ended
                if os.path.samefile(f"/proc/{entry}/cwd", self._folder):
                    os.kill(int(entry), signal.SIGKILL)
                    return
        raise AssertionError(f"no elrun of job {self.id} runs on {node}")

    def end(self):
        """Return its state, how often it was queued again, and what its start said of that."""
        until(lambda: self._cluster.show_job(self.id)["JobState"] in ENDED)
        shown = self._cluster.show_job(self.id)
        output = (self._folder / "output").read_text()
        again = output.count(f"job {self.id} is queued again\n")
        return (shown["JobState"], shown["Restarts"], again), output


def test_a_job_whose_first_node_is_gone_is_queued_again(cluster, tmp_path):
    """By the other one, when all workers must have left."""
    job = Saving(cluster, tmp_path)
    job.kill_elrun_on("node1")
    job.let_save(0, 1)

    end, output = job.end()

    assert ("COMPLETED", "1", 1) == end, output
    assert (tmp_path / "saved1").exists()


def test_a_node_that_has_left_does_not_end_those_that_save(cluster, tmp_path):
    """``srun --kill-on-bad-exit`` ends the step at the first exit code that is not 0."""
    job = Saving(cluster, tmp_path, "--kill-on-bad-exit=1")
    job.let_save(1)
    job.wait_for("saved1")
    cluster.run("srun", "--overlap", "--nodes=1", "--jobid", job.id, "sleep", "2")
    job.let_save(0)

    end, output = job.end()

    assert ("COMPLETED", "1", 1) == end, output
    assert (tmp_path / "saved0").exists()


def test_each_task_of_an_array_is_a_job_of_its_own(cluster, tmp_path):
    """They run side by side, under names and ports of their own."""
    command = f"srun elrun --no-python bash -c {SAY!r}"
    places = ("--array=0-1", "--nodes=2", "--ntasks-per-node=1", f"--output={tmp_path}/%a")
    cluster.run("sbatch", "--wait", *places, "--wrap", command)

    outputs = [(tmp_path / number).read_text() for number in "01"]

    expected = ["rank 0 of 2 on node1", "rank 1 of 2 on node2"]
    assert [expected] * 2 == [
        sorted(line for line in output.splitlines() if line.startswith("rank"))
        for output in outputs
    ]
    names = [re.search(r"--rdzv-id (\S+)", output)[1] for output in outputs]
    assert 2 == len(set(names))
