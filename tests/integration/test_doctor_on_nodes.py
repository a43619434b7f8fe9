"""``elrun doctor`` on several nodes: they meet, and measure what lies between them."""

import json
import signal

import pytest
from elrun.rendezvous.stores.etcd.server import EtcdServer
from job_kit import can_connect, until
from network_kit import Network

pytestmark = pytest.mark.integration

C10D_AT_NODE1 = ("--rdzv-backend", "c10d", "--rdzv-endpoint", "node1:29400")
WAIT_S = 200


def checks_of(ends):
    """Return each node's checks by name, and their exit codes."""
    found = [json.loads(out)["checks"] for _, out, _ in ends]
    return [{check["name"]: check for check in checks} for checks in found], [c for c, *_ in ends]


def test_two_nodes_meet_and_measure(elrun, vacant_endpoint):
    """Connections, clocks, versions and gloo are compared; both nodes say the same."""
    options = ("--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    jobs = [elrun("doctor", "--format", "json", *options) for _ in range(2)]

    checks, codes = checks_of([job.finish(WAIT_S) for job in jobs])

    assert [0, 0] == codes
    compared = ["versions and options", "clocks", "connections", "all-reduce by gloo"]
    assert ["ok"] * 4 == [checks[0][name]["verdict"] for name in compared]
    endpoint = f"endpoint {vacant_endpoint}"
    assert ["ok"] * 2 == [found[endpoint]["verdict"] for found in checks], "each other's doctor"
    assert [checks[0][name] for name in compared] == [checks[1][name] for name in compared]


def test_nodes_whose_options_differ_are_named(elrun, vacant_endpoint):
    """They would wait for different numbers of nodes."""
    meeting = ("--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint, "--nnodes", "2")
    jobs = [
        elrun("doctor", "--format", "json", *meeting, "--max-restarts", number) for number in (0, 5)
    ]

    checks, codes = checks_of([job.finish(WAIT_S) for job in jobs])

    assert [0, 0] == codes
    assert "max_restarts=5" in checks[0]["options differs"]["found"]


def test_an_etcd_is_asked_and_then_met_at(elrun):
    """Its version and health come first."""
    with EtcdServer() as etcd:
        endpoint = etcd.get_endpoint()
        options = ("--rdzv-backend", "etcd-v3", "--rdzv-endpoint", endpoint)
        jobs = [
            elrun("doctor", "--format", "json", "--nnodes", "2", "--rdzv-id", "x", *options)
            for _ in range(2)
        ]
        checks, codes = checks_of([job.finish(WAIT_S) for job in jobs])

    assert [0, 0] == codes
    assert "version 3.5.1, healthy" == checks[0][f"etcd at {endpoint}"]["found"]


def test_nodes_that_do_not_come_are_waited_for_in_bounds(elrun, vacant_endpoint):
    """Then the check has failed."""
    meeting = ("--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint, "--nnodes", "2")

    code, out, err = elrun("doctor", *meeting, "--rdzv-conf", "join_timeout=1").finish(WAIT_S)

    assert 1 == code, err
    assert "failed  rendezvous: " in out
    assert "run elrun doctor with the same options on all nodes at once" in out


def test_a_signal_ends_it(elrun, vacant_endpoint):
    """While it waits for the others."""
    job = elrun(
        *("doctor", "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint, "--nnodes", "2")
    )
    job.wait_for_line("ok      endpoint")
    until(lambda: can_connect(vacant_endpoint))
    job.signal(signal.SIGTERM)

    code, _, err = job.finish(WAIT_S)

    assert 143 == code
    assert "Traceback" not in err


@pytest.mark.usefixtures("_namespaces")
def test_two_hosts_that_can_t_reach_each_other_are_named(elrun, tmp_path):
    """Though each of them reaches the endpoint."""
    network = Network(tmp_path, 3)
    try:
        first, second, third = network.hosts
        second.run("ip", "route", "add", "unreachable", f"{third.address}/32")
        jobs = [
            elrun("doctor", "--nnodes", "3", *C10D_AT_NODE1, prefix=host.prefix)
            for host in (first, second, third)
        ]
        ends = [job.finish(WAIT_S) for job in jobs]
    finally:
        network.close()

    assert [1, 1, 1] == [code for code, *_ in ends], ends
    lines = [line for line in ends[0][1].splitlines() if line.startswith("failed  connection")]
    assert lines
    assert all("on node2" in line and "on node3" in line for line in lines), lines
