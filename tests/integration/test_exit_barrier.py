"""Nodes whose workers finish at different times wait for each other, unless the job has failed."""

import subprocess

import pytest
from elrun.rendezvous.stores.etcd.server import EtcdServer

pytestmark = pytest.mark.integration

# Rank 0 is done at once. Rank 1 goes on until the test writes its file, which says how it ends.
DRIFT = """
import os, sys
nodes, attempt = os.environ["GROUP_WORLD_SIZE"], os.environ["TORCHELASTIC_RESTART_COUNT"]
rank = os.environ["RANK"]
sys.stdout.write(f"rank {rank} of {nodes} restart {attempt}\\n")
sys.stdout.flush()
if rank == "1":
    sys.exit(int(open("go").read()))
"""
STAYS_S = 1


@pytest.fixture(name="nodes")
def _nodes(elrun, script, tmp_path, meeting):
    """Two agents of a job that could go on with one; by the rank of their workers."""
    first, last, go = start(elrun, script, tmp_path, meeting)
    with pytest.raises(subprocess.TimeoutExpired):  # its workers have ended, or will in a moment
        first.process.wait(STAYS_S)
    return first, last, go


def start(elrun, script, tmp_path, meeting, **environ):
    go = tmp_path / "go"
    subprocess.run(["mkfifo", go], check=True)
    backend, endpoint = meeting
    jobs = [
        elrun(
            *("--nnodes", "1:2", "--rdzv-backend", backend, "--rdzv-endpoint", endpoint),
            *("--rdzv-id", "job", "--rdzv-conf", "last_call_timeout=60", script(DRIFT)),
            env=environ,
        )
        for _ in range(2)
    ]
    ranks = [job.wait_for_line("rank").split()[1] for job in jobs]
    assert ["0", "1"] == sorted(ranks)
    by_rank = dict(zip(ranks, jobs, strict=True))
    return by_rank["0"], by_rank["1"], go


def test_a_node_that_is_done_waits_for_the_others(nodes):
    """It is neither gone nor lost for them: nobody starts again."""
    first, last, go = nodes
    go.write_text("0")

    ends = [job.finish()[:2] for job in (first, last)]

    assert [(0, "rank 0 of 2 restart 0\n"), (0, "rank 1 of 2 restart 0\n")] == ends


def test_the_wait_for_the_others_has_an_end(elrun, script, tmp_path):
    """TORCH_ELASTIC_EXIT_BARRIER_TIMEOUT sets it; who leaves has succeeded, and so may the rest."""
    with EtcdServer(v2=False) as etcd:
        first, last, go = start(
            *(elrun, script, tmp_path, ("etcd-v3", etcd.get_endpoint())),
            TORCH_ELASTIC_EXIT_BARRIER_TIMEOUT="0.5",
        )
        code, _, err = first.finish()
        go.write_text("0")

        assert (0, "rank 1 of 2 restart 0\n") == last.finish()[:2]
    assert 0 == code
    assert "the other nodes have not finished within 0.5 s: this one leaves" in err


def test_a_node_that_is_done_fails_when_another_does(nodes):
    """The job failed, and every node says so with the same exit code."""
    first, last, go = nodes
    go.write_text("7")

    ends = [job.finish() for job in (first, last)]

    assert [7, 7] == [code for code, _, _ in ends]
    assert all("rank 1 exited with code 7" in err for _, _, err in ends)
