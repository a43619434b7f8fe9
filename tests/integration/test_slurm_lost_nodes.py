"""A node of a SLURM job loses its power."""

import os

import pytest
from slurm_kit import MARKS, SAY, cluster_in

pytestmark = [
    *MARKS,
    pytest.mark.skipif(os.geteuid() != 0, reason="the nodes have no power switch"),
]


def test_a_job_with_room_goes_on_without_a_lost_node(tmp_path):
    """SLURM has to be told not to end it; elrun, how few nodes will do."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    script = f"{SAY}; [ $WORLD_SIZE = 1 ] || {{ [ $RANK = 1 ] && echo > {ready}; sleep 300; }}"
    job = f"srun --no-kill elrun --nnodes 1:2 --no-python bash -c '{script}'"

    with cluster_in(tmp_path / "slurm") as cluster:

        def cut_power():
            ready.read_text()
            cluster.cut_power("node2")

        code, output = cluster.sbatch(
            tmp_path / "job.out", "--no-kill", "--wrap", job, meanwhile=cut_power
        )

    assert 0 == code, output
    told = ("has not been heard of", "is gone: its agent's connection has ended")
    assert any(f"node2 (group rank 1) {words}" in output for words in told), output
    assert "rank 0 of 1 on node1" in output
