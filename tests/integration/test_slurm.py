"""The SLURM script of the examples, on a real SLURM of two nodes with a network each."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SBATCH_FILE = REPOSITORY / "examples/slurm/train.sbatch"
CLUSTER_TOOL = Path(
    os.environ.get("ELRUN_SLURM_CLUSTER", REPOSITORY.parent / "shared/tools/slurm-cluster")
)
# Debian's daemons are in sbin; the nodes find elrun on the PATH that sbatch hands on.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin", "/sbin"])
MISSING = [
    name
    for name in ("munged", "slurmctld", "slurmd", "sbatch", "srun")
    if not shutil.which(name, path=PATH)
]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slurm,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(MISSING), reason=f"SLURM is not installed: no {', '.join(MISSING)}"),
    pytest.mark.skipif(
        not CLUSTER_TOOL.exists(), reason=f"no {CLUSTER_TOOL} (ELRUN_SLURM_CLUSTER names it)"
    ),
]

FAIL_5_ON_RANK_3 = '[ "$RANK" = 3 ] && exit 5; exec sleep 100'
TWO_AGENTS = """
srun --ntasks-per-node=1 elrun --nnodes 2 --nproc-per-node 2 --rdzv-backend c10d
    --rdzv-endpoint "$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)":29911
    --rdzv-id "$SLURM_JOB_ID" --no-python bash -c
"""


@pytest.fixture(scope="module", name="cluster")
def _cluster(tmp_path_factory):
    """Start a cluster of two nodes; return the environment of those who use it."""
    folder = tmp_path_factory.mktemp("slurm")
    environment = {name: value for name, value in os.environ.items() if name[:6] != "SLURM_"}
    environment |= {"PATH": PATH, "SLURM_CLUSTER_DIR": str(folder)}

    def tool(*arguments):
        return subprocess.run(
            [CLUSTER_TOOL, *arguments], env=environment, check=True, text=True, capture_output=True
        ).stdout

    try:
        tool("up", "2")
        conf = re.search(r"SLURM_CONF='(.*)'", tool("env")).group(1)
        yield environment | {"SLURM_CONF": conf}
    finally:
        tool("down")


@pytest.fixture(name="sbatch")
def _sbatch(cluster, tmp_path):
    """Submit a job, wait for its end, return exit code and output; afterwards no job is left."""

    def run(*command):
        return subprocess.run(
            [str(word) for word in command],
            check=True,
            env=cluster,
            cwd=REPOSITORY,
            timeout=200,
            text=True,
            stdout=subprocess.PIPE,
        ).stdout

    def submit(*arguments):
        output = tmp_path / "job.out"
        job = run("sbatch", "--parsable", "--nodes=2", f"--output={output}", *arguments).strip()
        # `sbatch --wait` looks after 2, 10, 42 s; a job that depends on this one starts at its end.
        run("srun", "--nodes=1", f"--dependency=afterany:{job}", "true")
        code = re.search(r"ExitCode=(\d+):0", run("scontrol", "show", "job", job))
        return int(code[1]), output.read_text()

    yield submit
    run("scancel", "--user", os.getuid())


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
