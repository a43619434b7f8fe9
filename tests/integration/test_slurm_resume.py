"""``examples/slurm/resume.sbatch`` is preempted on a real cluster, and goes on where it was."""

import re

import pytest
from job_kit import until
from slurm_kit import ENDED, MARKS, REPOSITORY, cluster_in

pytestmark = MARKS

SBATCH_FILE = REPOSITORY / "examples/slurm/resume.sbatch"


class Submitted:
    """The example's job.

    Args:
        cluster: Where it runs.
        folder: Where its checkpoint and its output go.
        options: What else sbatch is told.
        words: What the training script is told.
    """

    def __init__(self, cluster, folder, options, words):
        self._cluster = cluster
        self._output = folder / "output"
        known = ("--parsable", f"--output={self._output}", *options)
        command = ("sbatch", *known, SBATCH_FILE, folder / "checkpoints", *words)
        self.id = cluster.run(*command).strip()

    @property
    def output(self):
        return self._output.read_text() if self._output.exists() else ""

    def wait_until_it_trains(self):
        until(lambda: "step 10\n" in self.output)

    def wait_for_end(self):
        """Return its state, and how often it was started again."""
        until(lambda: self._cluster.show_job(self.id)["JobState"] in ENDED)
        shown = self._cluster.show_job(self.id)
        return shown["JobState"], int(shown["Restarts"])

    def steps_saved(self):
        return [
            int(step) for step in re.findall(r"^saved at step (\d+)", self.output, re.MULTILINE)
        ]

    def steps_resumed(self):
        found = re.findall(r"^restart (\d+): from step (\d+)", self.output, re.MULTILINE)
        return [(int(restart), int(step)) for restart, step in found]


@pytest.fixture(scope="module", name="cluster")
def _cluster(tmp_path_factory):
    with cluster_in(tmp_path_factory.mktemp("slurm"), "KillWait=30") as cluster:  # its default
        yield cluster


@pytest.fixture(name="submit")
def _submit(cluster, tmp_path):
    """Submit the example; afterwards no job is left."""
    yield lambda *options, words: Submitted(cluster, tmp_path, options, words)
    cluster.cancel_all()


def assert_resumed_to_the_end(job, steps):
    """Each start goes on with the step after the one that was saved."""
    state, restarts = job.wait_for_end()
    saved = job.steps_saved()
    assert ("COMPLETED", len(saved)) == (state, restarts), job.output
    assert [(0, 0), *enumerate(saved, 1)] == job.steps_resumed()
    assert f"finished {steps} steps with loss" in job.output
    for words in ("Traceback", "failed", "did not leave"):
        assert words not in job.output


def test_by_a_signal_of_its_user(cluster, submit):
    """One node has the job queued again, when the workers of both have left."""
    job = submit(words=("--steps", 100))
    job.wait_until_it_trains()
    cluster.run("scancel", "--signal=USR1", job.id)

    assert_resumed_to_the_end(job, 100)
    assert 1 == job.output.count(f"job {job.id} is queued again\n")


def test_by_a_job_of_higher_priority(cluster, submit, tmp_path):
    """SLURM sends SIGTERM and queues it again; elrun does not do so once more."""
    job = submit("--exclusive", words=("--steps", 100))
    job.wait_until_it_trains()
    urgent = ("--partition=high", "--nodes=2", "--exclusive", f"--output={tmp_path}/urgent")
    cluster.run("sbatch", *urgent, "--wrap", "true")

    assert_resumed_to_the_end(job, 100)
    assert 1 == len(job.steps_saved())
    assert f"job {job.id} is queued again\n" not in job.output


def test_by_its_time_limit(submit):
    """The signal comes before; workers have what is left of the time by then."""
    job = submit("--time=2", "--signal=USR1@30", words=("--steps", 100, "--pause", 1))

    assert_resumed_to_the_end(job, 100)
    assert [] != job.steps_saved()
    said = re.findall(
        r"workers have (\S+) s to leave, until \S+ \(the SLURM job's end\)", job.output
    )
    # SLURM sends the signal up to 60 s early, and a loaded host runs its own daemons late.
    assert 0 < float(said[0]) <= 90, job.output


def test_a_cancelled_job_saves_and_stays_cancelled(cluster, submit):
    """Its user does not want it any more."""
    job = submit(words=("--steps", 1000))
    job.wait_until_it_trains()
    cluster.run("scancel", job.id)

    state, restarts = job.wait_for_end()

    assert ("CANCELLED", 0, 1) == (state, restarts, len(job.steps_saved())), job.output
    assert f"job {job.id} is not queued again, since SLURM ends it, as after scancel" in job.output


def test_a_job_that_may_not_be_queued_again_says_so(cluster, submit):
    """``sbatch --no-requeue`` stands; what was saved is saved."""
    job = submit("--no-requeue", words=("--steps", 1000))
    job.wait_until_it_trains()
    cluster.run("scancel", "--signal=USR1", job.id)

    state, restarts = job.wait_for_end()

    assert ("FAILED", 0, 1) == (state, restarts, len(job.steps_saved())), job.output
    assert "; submit it with sbatch --requeue" in job.output
