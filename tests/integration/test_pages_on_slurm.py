"""Commands of the pages that need a SLURM work, on a real one of two nodes."""

import pytest
from page_kit import BLOCKS
from page_stage import stage
from slurm_kit import MARKS, cluster_in

pytestmark = MARKS

RUN = [block for block in BLOCKS if block.is_run and "slurm" in block.words]
SHELL = """
cd '{folder}'
export ELRUN_RUN_DIR=/dev/null
bash -e ./block
code=$?
# sbatch returns at once: a step that depends on its job starts at its end.
for job in $(cat submitted 2>&-); do
    srun --nodes=1 --dependency=afterany:$job true
    scontrol show job $job | grep -q 'ExitCode=0:0' || {{ cat *.out; code=99; }}
done
printf '\\n%s' $code
"""
# What it submits is written down; its output is beside the block.
SBATCH = 'sbatch() { command sbatch --parsable "$@" >> submitted; }\n'


@pytest.fixture(scope="module", name="cluster")
def _cluster(tmp_path_factory):
    with cluster_in(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.mark.parametrize("block", RUN, ids=str)
def test_a_command_of_a_page_works_on_slurm(cluster, tmp_path, vacant_port, block):
    """It exits as the page says; what it submits succeeds."""
    with stage(block, tmp_path, vacant_port) as (script, _):
        (tmp_path / "block").write_text(SBATCH + script)

        output = cluster.run("bash", "-c", SHELL.format(folder=tmp_path))

    assert output.rpartition("\n")[2] in block.value("exit", "0").split(","), output
