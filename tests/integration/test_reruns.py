"""Jobs that are begun again under the same name while a real etcd still keeps their first run."""

import signal

import pytest
from elrun.rendezvous.stores.etcd.server import EtcdServer

pytestmark = pytest.mark.integration

HANG = """
import os, signal, sys
sys.stdout.write(f"nodes {os.environ['GROUP_WORLD_SIZE']}\\n")
sys.stdout.flush()
signal.pause()
"""


@pytest.fixture(params=["etcd-v3", "etcd-v2"], name="agent")
def _agent(elrun, request):
    """Start an agent of the job."""
    with EtcdServer(v2=request.param == "etcd-v2") as server:
        meeting = ["--rdzv-backend", request.param, "--rdzv-endpoint", server.get_endpoint()]
        yield lambda *args: elrun(*meeting, "--rdzv-id", "job", *args)


def stop(jobs, number):
    for job in jobs:
        job.signal(number)
    return [job.finish() for job in jobs]


def run_twice(agent, options, number):
    """Run two agents, end both by a signal, run two others; return their standard output."""
    for _ in range(2):
        jobs = [agent("--nnodes", *options) for _ in range(2)]
        for job in jobs:
            job.wait_for_line("nodes 2")
        ends = stop(jobs, number)
    return [out for _, out, _ in ends]


@pytest.mark.parametrize(
    ("nodes", "number"), [("2", signal.SIGKILL), ("2", signal.SIGTERM), ("1:3", signal.SIGKILL)]
)
def test_a_job_that_ended_as_a_whole_may_begin_again_at_once(agent, script, nodes, number):
    """Its new nodes notice that those of the first run are gone, and do without them."""
    options = [nodes, "--rdzv-conf", "last_call_timeout=3", script(HANG)]
    outs = run_twice(agent, options, number)

    assert all(out.endswith("nodes 2\n") for out in outs), outs


def test_a_job_that_is_done_says_how_to_run_it_again(agent, script):
    """Exit code 75, as nobody has failed: a later attempt may succeed."""
    path = script("")
    first = agent("--nnodes", 1, path).finish()
    second = agent("--nnodes", 1, path).finish()

    assert (0, 75) == (first[0], second[0])
    assert "give it another --rdzv-id, or start it 75 s after its last node has left" in second[2]
