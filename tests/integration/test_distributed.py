"""Workers that use the rest of torch.distributed: each a small program that people might write."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

PROGRAMS = Path(__file__).with_name("programs")
PATIENCE_S = 240


def lines_of(ends):
    return sorted(line for _, out, _ in ends for line in out.splitlines())


@pytest.fixture(name="two_agents")
def _two_agents(elrun, vacant_endpoint):
    """Run a program on one worker of each of two agents, to its end."""

    def run(program, *args, options=()):
        meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint]
        words = [*meeting, "--rdzv-id", "job", "--nnodes", 2, *options, PROGRAMS / program, *args]
        ends = [job.finish(PATIENCE_S) for job in [elrun(*words), elrun(*words)]]
        assert [0, 0] == [code for code, _, _ in ends], ends
        return lines_of(ends)

    return run


@pytest.fixture(name="two_workers")
def _two_workers(elrun):
    """Run a program on two workers of one agent, to its end."""

    def run(program):
        job = elrun("--standalone", "--nproc-per-node", 2, PROGRAMS / program)
        end = job.finish(PATIENCE_S)
        assert 0 == end[0], end
        return lines_of([end])

    return run


def test_rpc_spans_two_agents(two_agents):
    """TensorPipe finds its peers by the environment that elrun gives."""
    assert ["rank 0: 40 0", "rank 1: 41 2"] == two_agents("rpc_ring.py")


def test_a_distributed_checkpoint_outlives_a_restart(two_agents, tmp_path):
    """A worker on the second node dies; both go on from the step that was saved."""
    said = two_agents("checkpoints.py", tmp_path / "saved", options=["--max-restarts", 1])

    assert ["rank 0: from step 2, sum 32", "rank 1: from step 2, sum 32"] == said


def test_a_sharded_model_learns(two_workers):
    """FSDP2 on a mesh of CPUs, over gloo."""
    assert ["rank 0: rows 4, falls True", "rank 1: rows 4, falls True"] == two_workers(
        "sharded_model.py"
    )


def test_data_loaders_have_processes_of_their_own(two_workers):
    """Which are spawned, find the worker's main module, and are gone when it ends."""
    said = two_workers("data_loaders.py")

    assert [f"rank {rank}: saw 16, weights agree True" for rank in (0, 1)] == said


def test_a_monitored_barrier_names_who_is_missing(two_workers):
    """Ranks are what torch thinks they are."""
    assert ["rank 0: missed rank 1 True"] == two_workers("monitored_barrier.py")
