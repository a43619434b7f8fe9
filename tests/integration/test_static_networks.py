"""Nodes that were told their ranks, on hosts of their own with names and cables."""

import signal

import pytest
from network_kit import Network

pytestmark = pytest.mark.integration

HANG = """
import os, signal, sys
names = "RANK WORLD_SIZE MASTER_ADDR"
sys.stdout.write("rank " + " ".join(os.environ[name] for name in names.split()) + "\\n")
sys.stdout.flush()
signal.pause()
"""
PORT = "29500"


@pytest.fixture(name="hosts")
def _hosts(_namespaces, tmp_path):
    """Three hosts, node1 to node3, that know each other's names."""
    network = Network(tmp_path, 3)
    yield network.hosts
    network.close()


@pytest.fixture(name="start")
def _start(elrun, script):
    """Start an agent on a host by what Kubeflow's trainer sets."""
    path = script(HANG)

    def start(host, rank, master, nodes=3, conf="heartbeat_patience=2"):
        variables = {
            "PET_NNODES": str(nodes),
            "PET_NODE_RANK": str(rank),
            "PET_MASTER_ADDR": master,
            "PET_MASTER_PORT": PORT,
            "PET_RDZV_CONF": conf,
        }
        return elrun(path, env=variables, prefix=host.prefix)

    return start


def stop(jobs):
    for job in jobs:
        job.signal(signal.SIGTERM)
    return [job.finish()[0] for job in jobs]


def read_until(job, text):
    """Return once an agent has said this on standard error; the test's time-out bounds the wait."""
    for line in job.process.stderr:
        if text in line:
            return
    raise AssertionError(f"it did not say: {text}")


def words(err):
    return " ".join(err.split())


def test_a_master_whose_name_appears_late_is_met(start, hosts, tmp_path):
    """A headless service knows a pod some seconds after the pod's start, also on that pod."""
    jobs = [start(host, rank, "job-0.headless") for rank, host in enumerate(hosts)]
    for job in jobs[1:]:
        read_until(job, "job-0.headless can't be resolved")
    with (tmp_path / "hosts").open("a") as known:
        known.write(f"{hosts[0].address} job-0.headless\n")

    assert [f"rank {rank} 3 job-0.headless" for rank in range(3)] == [
        job.wait_for_line("rank") for job in jobs
    ]
    assert [143] * 3 == stop(jobs)


def test_a_master_may_have_other_names_for_itself(start, hosts):
    """It listens on all interfaces, as torch does; each node's workers find what it was told."""
    masters = ["127.0.0.1", "node1", hosts[0].address]
    jobs = [
        start(host, rank, master)
        for rank, (host, master) in enumerate(zip(hosts, masters, strict=True))
    ]

    assert [f"rank {rank} 3 {master}" for rank, master in enumerate(masters)] == [
        job.wait_for_line("rank") for job in jobs
    ]
    assert [143] * 3 == stop(jobs)


def test_two_nodes_of_rank_0_on_two_hosts_are_named(start, hosts):
    """Where nobody gave the second one its rank: the master's address says which is which."""
    wrong = start(hosts[1], 0, "node1")
    right = start(hosts[0], 0, "node1")
    code, _, err = wrong.finish()
    right.signal(signal.SIGTERM)
    code_of_right, _, err_of_right = right.finish()

    told = "two nodes have --node-rank 0, on node2 and on node1"
    assert (75, True) == (code, told in words(err)), err
    assert (143, True) == (code_of_right, told in words(err_of_right)), err_of_right


def test_a_node_that_was_cut_off_joins_again(start, hosts):
    """The others miss it, wait for it, and go on with it, in the same ranks."""
    jobs = [start(host, rank, "node1") for rank, host in enumerate(hosts)]
    for job in jobs:
        job.wait_for_line("rank")
    hosts[2].cut_cable()
    for job in jobs[:2]:
        read_until(job, "node3 (group rank 2) has not been heard of")
    hosts[2].mend_cable()

    assert [f"rank {rank} 3 node1" for rank in range(3)] == [
        job.wait_for_line("rank") for job in jobs
    ]
    assert [143] * 3 == stop(jobs)


def test_a_node_that_was_cut_off_is_replaced(start, hosts):
    """Its connection has not ended, and still another one may take its rank."""
    jobs = [start(host, rank, "node1") for rank, host in enumerate(hosts)]
    for job in jobs:
        job.wait_for_line("rank")
    hosts[2].cut_cable()
    replacement = start(hosts[1], 2, "node1")

    assert [f"rank {rank} 3 node1" for rank in range(3)] == [
        job.wait_for_line("rank") for job in [*jobs[:2], replacement]
    ]
    assert [143] * 3 == stop([*jobs[:2], replacement])
    hosts[2].mend_cable()
    jobs[2].signal(signal.SIGTERM)
    assert jobs[2].finish()[0] in (75, 143)
