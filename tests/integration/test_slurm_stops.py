"""SLURM ends jobs on a real cluster of two nodes: all workers save first, on both nodes."""

import pytest
from job_kit import until
from slurm_kit import ENDED, MARKS, cluster_in

pytestmark = MARKS

# It needs some seconds to save; in the job's second run there is nothing left to do.
WORKER = """
import os, pathlib, signal, sys, threading

folder, save_s = pathlib.Path(sys.argv[1]), float(sys.argv[2])
rank, run = os.environ["RANK"], os.environ.get("SLURM_RESTART_COUNT", "0")

def save(number, frame):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Event().wait(save_s)
    (folder / f"saved_{run}_{rank}").touch()
    os._exit(0)

signal.signal(signal.SIGTERM, save)
(folder / f"ready_{run}_{rank}").touch()
while run == "0":
    signal.pause()
"""

# It counts the signals that mean "save now", and works on.
COUNTER = """
import os, pathlib, signal, sys, time

folder, rank, got = pathlib.Path(sys.argv[1]), os.environ["RANK"], []

def save(number, frame):
    got.append(number)
    (folder / f"saved_{len(got)}_{rank}").touch()

signal.signal(signal.SIGUSR1, save)
(folder / f"ready_0_{rank}").touch()
while not (folder / "enough").exists():
    time.sleep(0.05)
"""


class Job:
    """A job of two nodes with two workers each.

    Args:
        cluster: Where it runs.
        folder: Where its workers leave marks, and its output goes.
        save_s: How long its workers need to save.
        options: What else sbatch is told.
        worker: Their script.
    """

    def __init__(self, cluster, folder, save_s, *options, worker=WORKER):
        self._cluster = cluster
        self.folder = folder
        folder.mkdir()
        (folder / "worker.py").write_text(worker)
        command = f"srun elrun --nproc-per-node 2 {folder}/worker.py {folder} {save_s}"
        output = ("--parsable", "--nodes=2", "--open-mode=append", f"--output={folder}/output")
        self.id = cluster.run("sbatch", *output, *options, "--wrap", command).strip()

    @property
    def output(self):
        return (self.folder / "output").read_text()

    def marks(self, name):
        return sorted(path.name for path in self.folder.glob(f"{name}_*"))

    def wait_until_ready(self):
        until(lambda: len(self.marks("ready_0")) == 4)

    def wait_until_saved(self):
        """Return once all have saved, or the job is over."""
        until(lambda: len(self.marks("saved_0")) == 4 or self.is_over())

    def is_over(self):
        return self.state() in ENDED

    def state(self):
        return self._cluster.show_job(self.id)["JobState"]

    def wait_for_end(self):
        """Return its state and its exit code at the end."""
        until(self.is_over)
        shown = self._cluster.show_job(self.id)
        return shown["JobState"], shown["ExitCode"]


@pytest.fixture(scope="module", name="cluster")
def _cluster(tmp_path_factory):
    with cluster_in(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture(name="run")
def _run(cluster, tmp_path):
    """Submit a job, return it when its workers are ready; afterwards no job is left."""

    def run(save_s, *options, worker=WORKER):
        job = Job(cluster, tmp_path / "job", save_s, *options, worker=worker)
        job.wait_until_ready()
        return job

    yield run
    cluster.cancel_all()


ALL_SAVED = [f"saved_0_{rank}" for rank in range(4)]


def assert_told_as_a_stop(output):
    """Both nodes say what stopped them, and nothing that reads as a fault."""
    assert 2 == output.count("elrun: stopped by SIGTERM; none of its workers is left"), output
    for words in ("forming a new round", "restarting", "Ctrl-C", "failed", "Traceback", "killed:"):
        assert words not in output


def test_scancel_lets_all_workers_save(cluster, run):
    """The job is CANCELLED, as SLURM has it."""
    job = run(2.5)

    cluster.run("scancel", job.id)
    job.wait_until_saved()

    assert "CANCELLED" == job.wait_for_end()[0]
    assert ALL_SAVED == job.marks("saved_0")
    assert_told_as_a_stop(job.output)


def test_a_requeued_job_has_saved_and_runs_again(cluster, run):
    """By ``scontrol requeue``: it ends well in the end."""
    job = run(1, "--requeue")

    cluster.run("scontrol", "requeue", job.id)
    job.wait_until_saved()

    assert ALL_SAVED == job.marks("saved_0")
    assert ("COMPLETED", "0:0") == job.wait_for_end()
    assert_told_as_a_stop(job.output)


def test_a_preempted_job_has_saved_and_runs_again(cluster, run):
    """SLURM sends SIGTERM twice there."""
    job = run(2, "--requeue", "--exclusive")

    urgent = ("--partition=high", "--nodes=2", "--exclusive")
    cluster.run("sbatch", *urgent, f"--output={job.folder}/urgent", "--wrap", "true")
    job.wait_until_saved()

    assert ALL_SAVED == job.marks("saved_0")
    assert ("COMPLETED", "0:0") == job.wait_for_end()
    assert_told_as_a_stop(job.output)


def test_a_time_limit_lets_all_workers_save(run):
    """SLURM sends SIGTERM twice there, too; its shortest limit is a minute."""
    job = run(3, "--time=1")

    job.wait_until_saved()

    assert "TIMEOUT" == job.wait_for_end()[0]
    assert ALL_SAVED == job.marks("saved_0")
    assert_told_as_a_stop(job.output)


@pytest.mark.parametrize("how", ["scancel", "before the time limit"])
def test_a_signal_that_means_save_now_reaches_each_worker_once(cluster, run, how):
    """elrun goes on, its helpers too, and each signal is a signal: no worker saves twice."""
    options = ["--signal=USR1@55", "--time=1"] if how == "before the time limit" else []
    job = run(0, *options, worker=COUNTER)
    if how == "scancel":
        cluster.run("scancel", "--signal=USR1", job.id)
    until(lambda: len(job.marks("saved_1")) == 4 or job.is_over())
    if how == "scancel":
        cluster.run("scancel", "--signal=USR1", job.id)
        until(lambda: len(job.marks("saved_2")) == 4 or job.is_over())
    (job.folder / "enough").touch()

    state, _ = job.wait_for_end()

    assert "COMPLETED" == state, job.output
    expected = {"scancel": ["1", "2"], "before the time limit": ["1"]}[how]
    assert expected == sorted({mark.split("_")[1] for mark in job.marks("saved")}), job.output
