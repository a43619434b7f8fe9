"""Jobs of two nodes that differ, over each backend, from a command and from a Python function."""

import json
import os
from pathlib import Path

import pytest
from elrun.rendezvous.stores.etcd.server import EtcdServer

pytestmark = pytest.mark.integration

BACKENDS = ["c10d", "etcd", "etcd-v2", "etcd-v3"]
NODE = Path(__file__).with_name("node_of_job.py")


@pytest.fixture(name="endpoint_of", scope="module")
def _endpoint_of():
    """Endpoints of etcds that this file's jobs share, one with the v2 API and one without."""
    with EtcdServer(v2=True) as old, EtcdServer() as new:
        endpoints = dict.fromkeys(("etcd", "etcd-v2"), old.get_endpoint())
        yield endpoints | {"etcd-v3": new.get_endpoint()}


@pytest.fixture(name="nodes", params=BACKENDS)
def _nodes(elrun, endpoint_of, vacant_endpoint, request):
    """Run both nodes and return how the job ended for each: one learner and two actors."""

    def run(how, act, restarts=0):
        backend = request.param
        endpoint = vacant_endpoint if backend == "c10d" else endpoint_of[backend]
        run_id = os.urandom(4).hex()  # the name of a job that has ended is not free at once
        jobs = [
            elrun(how, backend, endpoint, run_id, role, workers, restarts, act, command=(NODE,))
            for role, workers in (("learner", 1), ("actor", 2))
        ]
        ends = [job.finish(timeout_s=100) for job in jobs]
        assert [0, 0] == [code for code, _, _ in ends], ends
        return [json.loads(out.splitlines()[-1]) for _, out, _ in ends], [err for *_, err in ends]

    return run


both = pytest.mark.parametrize("how", ["function", "command"])


@both
def test_workers_of_nodes_that_differ_find_consistent_ranks(nodes, how):
    """Every variable of each worker; functions bring it home by global rank."""
    (learner, actor), errors = nodes(how, "look around")

    values = {int(rank): value for end in (learner, actor) for rank, value in end["values"].items()}
    assert [0, 1, 2] == sorted(values)
    assert ["learner"] == [value["ROLE_NAME"] for value in learner["values"].values()]
    first_actor = min(map(int, actor["values"]))
    for rank, found in values.items():
        is_actor = found["ROLE_NAME"] == "actor"
        assert str(rank) == found.pop("RANK")
        assert str(rank - first_actor if is_actor else 0) == found.pop("LOCAL_RANK")
        assert str(rank - first_actor if is_actor else 0) == found.pop("ROLE_RANK")
        assert ("2" if is_actor else "1") == found.pop("ROLE_WORLD_SIZE")
        assert ("2" if is_actor else "1") == found.pop("LOCAL_WORLD_SIZE")
        assert ("1" if is_actor else None) == found.pop("OMP_NUM_THREADS")
        # The node with rank 0 has group rank 0.
        assert str(int(is_actor == (first_actor == 1))) == found.pop("GROUP_RANK")
        del found["ROLE_NAME"]
    assert values[0] == values[1] == values[2]
    assert values[0].pop("MASTER_ADDR")
    assert int(values[0].pop("MASTER_PORT")) > 0
    assert 8 == len(values[0].pop("TORCHELASTIC_RUN_ID"))
    assert {
        "WORLD_SIZE": "3",
        "GROUP_WORLD_SIZE": "2",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
    } == values[0]
    assert all("Traceback" not in err for err in errors)


@both
@pytest.mark.parametrize("act", ["rank 1 fails", "all fail"])
def test_the_end_says_who_failed_and_why(nodes, how, act):
    """Every node learns of the same root cause: its rank, exit code, words and error file."""
    ends, errors = nodes(how, act)

    if how == "command":
        assert [1, 1] == [end["code"] for end in ends]
        (line,) = {line for err in errors for line in err.splitlines() if " failed: rank " in line}
        rank = line.split("failed: rank ")[1][0]
        assert all(f"ValueError: rank {rank} had no luck" in err for err in errors)
    else:
        (rank,) = {end["first"] for end in ends}
        told = [end["failures"][str(rank)] for end in ends if str(rank) in end["failures"]]
        assert [1, f"ValueError: rank {rank} had no luck", True] in told
    assert act == "all fail" or int(rank) == 1


@both
def test_a_failed_rank_restarts_the_group(nodes, how):
    """One failure, one restart, on both nodes; then all succeed."""
    ends, _ = nodes(how, "rank 1 fails once", restarts=2)

    counts = [
        value["TORCHELASTIC_RESTART_COUNT"] for end in ends for value in end["values"].values()
    ]
    assert "1" in counts
    assert 3 == len({rank for end in ends for rank in end["values"]})
    assert {"1"} == set(counts) if how == "function" else {"0", "1"} >= set(counts)
