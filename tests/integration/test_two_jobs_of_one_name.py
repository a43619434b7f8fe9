"""Two jobs that were given one run id and one endpoint: people of both learn of it."""

import os
import signal

import pytest
from elrun.rendezvous.stores.etcd.server import EtcdServer
from job_kit import until

NAME = os.uname().nodename
WAITS = "import signal; print('runs', flush=True); signal.pause()"


@pytest.fixture(params=["c10d", "etcd-v2", "etcd-v3"], name="meeting")
def _meeting(request, vacant_endpoint):
    if request.param.startswith("etcd"):
        with EtcdServer() as server:
            yield ["--rdzv-backend", request.param, "--rdzv-endpoint", server.get_endpoint()]
        return
    yield ["--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint]


@pytest.fixture(name="start")
def _start(elrun, script, tmp_path, meeting):
    """Return what starts an agent whose own lines go to a file."""
    path = script(WAITS)
    options = [*meeting, "--rdzv-id", "job", "--nnodes", 2, path]

    def start(log):
        (tmp_path / log).touch()
        return elrun(*options, prefix=("sh", "-c", f'exec "$@" 2>{tmp_path}/{log}', "-"))

    return start


def test_a_node_too_many_is_told_on_both_sides(start, tmp_path):
    """The first job goes on; its first node names the one that waits, which says so itself."""
    jobs = [start(f"first{number}") for number in range(2)]
    for job in jobs:
        job.wait_for_line("runs")

    def said(log, words):
        return (tmp_path / log).read_text().count(words)

    jobs.append(start("second"))
    until(lambda: said("second", "this one waits as a spare"))
    until(lambda: said("first0", "spare") + said("first1", "spare"))
    for job in jobs:
        job.signal(signal.SIGTERM)
    for job in jobs:
        job.finish()

    words = f"run 'job' has all its nodes, and one more on {NAME} waits as a spare"
    assert 1 == said("first0", words) + said("first1", words)
    assert 1 == said("second", "if it is for another job, give that another --rdzv-id")
