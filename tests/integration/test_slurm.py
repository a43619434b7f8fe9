"""Jobs on a real SLURM of two nodes with a network each."""

import re

import pytest
from slurm_kit import MARKS, REPOSITORY, SAY, cluster_in

pytestmark = MARKS

SBATCH_FILE = REPOSITORY / "examples/slurm/train.sbatch"
FAIL_5_ON_RANK_3 = '[ "$RANK" = 3 ] && exit 5; exec sleep 100'
TWO_AGENTS = """
srun --ntasks-per-node=1 elrun --nnodes 2 --nproc-per-node 2 --rdzv-backend c10d
    --rdzv-endpoint "$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)":29911
    --rdzv-id "$SLURM_JOB_ID" --no-python bash -c
"""


@pytest.fixture(scope="module", name="cluster")
def _cluster(tmp_path_factory):
    with cluster_in(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture(name="sbatch")
def _sbatch(cluster, tmp_path):
    """Submit a job, wait for its end, return exit code and output; afterwards no job is left."""
    yield lambda *arguments: cluster.sbatch(tmp_path / "job.out", *arguments)
    cluster.cancel_all()


def test_one_agent_a_node_trains_over_both(sbatch, tmp_path):
    """``sbatch train.sbatch`` forms one job of four workers, and the loss falls."""
    options = ("--steps", 40, "--save-every", 20, "--checkpoint", tmp_path / "checkpoint")

    code, output = sbatch(SBATCH_FILE, *options)

    assert 0 == code, output
    assert "4 workers" in output
    at_20, at_40, _final = (float(loss) for loss in re.findall(r"loss (\d+\.\d+)", output))
    assert at_20 > at_40


def test_a_death_on_one_node_restarts_both(sbatch, tmp_path):
    """The agents tell each other; the job goes on from the checkpoint without the scheduler."""
    options = ("--steps", 40, "--save-every", 20, "--checkpoint", tmp_path / "checkpoint")

    code, output = sbatch(SBATCH_FILE, *options, "--die-at-step", 30, "--die-rank", 3)

    assert 0 == code, output
    assert "resumed at step 20" in output


def test_sbatch_gets_the_exit_code_of_the_root_cause(sbatch):
    """A worker's own code goes through elrun, srun and sbatch, from whichever node."""
    wrapped = " ".join(TWO_AGENTS.split("\n")) + f"'{FAIL_5_ON_RANK_3}'"

    code, output = sbatch("--wrap", wrapped)

    assert 5 == code, output


def test_srun_needs_no_recipe(sbatch):
    """``srun elrun`` on two nodes is one job; it is told at one of them what SLURM said."""
    code, output = sbatch("--wrap", f"srun elrun --nproc-per-node 2 --no-python bash -c '{SAY}'")

    assert 0 == code, output
    said = [line for line in output.splitlines() if line.startswith("rank ")]
    assert [
        "rank 0 of 4 on node1",
        "rank 1 of 4 on node1",
        "rank 2 of 4 on node2",
        "rank 3 of 4 on node2",
    ] == sorted(said)
    assert 1 == output.count("from SLURM: --nnodes 2 --rdzv-backend c10d --rdzv-endpoint node1:")


def test_two_steps_side_by_side_are_two_jobs(sbatch):
    """Each has a name and a port of its own, though their first host is the same."""
    step = f"srun --overlap elrun --no-python bash -c '{SAY}; echo name $TORCHELASTIC_RUN_ID'"

    code, output = sbatch("--wrap", f"{step} & {step}; wait $!")

    assert 0 == code, output
    assert 2 == output.count("rank 1 of 2 on node2")
    names = re.findall("^name (.*)", output, flags=re.MULTILINE)
    assert 2 == len(set(names)) == len(names) / 2


def test_a_batch_script_has_a_job_of_its_own(sbatch):
    """It runs once, on the first node, and no other elrun is waiting for it."""
    code, output = sbatch("--wrap", f"elrun --no-python bash -c '{SAY}'")

    assert (0, "rank 0 of 1 on node1\n") == (code, output)


def test_several_tasks_a_node_are_refused(sbatch):
    """Each would be an agent."""
    code, output = sbatch(
        "--ntasks-per-node=2", "--wrap", f"srun elrun --no-python bash -c '{SAY}'"
    )

    assert 2 == code, output
    assert 4 == output.count("has 4 tasks on 2 nodes, and each would be an agent; give srun")
    assert "rank" not in output


def test_more_nodes_than_the_step_has_are_refused(sbatch):
    """Nothing would start the third; both nodes say so at once."""
    code, output = sbatch("--wrap", f"srun elrun --nnodes 3 --no-python bash -c '{SAY}'")

    assert 2 == code, output
    assert 2 == len(re.findall(r"--nnodes 3: SLURM step \d+\.0 has 2 nodes; give srun", output))
    assert "rank" not in output


def test_nodes_of_several_steps_are_one_job(sbatch):
    """Each step has one node of the two, and the user says where they meet."""
    options = "--nnodes 2 --rdzv-backend c10d --rdzv-endpoint node1:29912 --rdzv-id steps"
    step = f"srun --overlap -N1 -w {{}} elrun {options} --no-python bash -c '{SAY}'"
    steps = f"{step.format('node1')} & {step.format('node2')}; code=$?; wait $! && exit $code"

    code, output = sbatch("--wrap", steps)

    assert 0 == code, output
    said = [line for line in output.splitlines() if line.startswith("rank ")]
    assert ["rank 0 of 2 on node1", "rank 1 of 2 on node2"] == sorted(said)


def test_components_of_a_heterogeneous_job_are_one_job(sbatch, tmp_path):
    """A step over several components has the nodes of all, and needs no option."""
    script = tmp_path / "heterogeneous.sbatch"
    lines = ("#!/bin/sh", "#SBATCH --nodes=1", "#SBATCH hetjob", "#SBATCH --nodes=1", "")
    step = f"srun --het-group=0,1 elrun --no-python bash -c '{SAY}'\n"
    script.write_text("\n".join(lines) + step)

    code, output = sbatch("--nodes=1", script)

    assert 0 == code, output
    said = [line for line in output.splitlines() if line.startswith("rank ")]
    assert ["rank 0 of 2 on node1", "rank 1 of 2 on node2"] == sorted(said)
