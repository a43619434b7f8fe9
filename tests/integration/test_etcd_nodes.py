"""Jobs of several agents that meet over a real etcd."""

import pytest
from elrun.rendezvous.stores.etcd.server import EtcdServer
from job_kit import RunningJob

pytestmark = pytest.mark.integration

BACKENDS = ["etcd-v3", "etcd-v2"]
ALL_REDUCE = """
import os, sys, torch, torch.distributed as dist
dist.init_process_group("gloo")
one = torch.ones(1)
dist.all_reduce(one)
sys.stdout.write(f"sum {int(one)} restart {os.environ['TORCHELASTIC_RESTART_COUNT']}\\n")
dist.destroy_process_group()
"""
FAILS_ONCE = """
import os, signal, sys
attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
sys.stdout.write(f"attempt {attempt}\\n")
sys.stdout.flush()
if attempt == "0":
    sys.exit(7) if os.environ["RANK"] == "0" else signal.pause()
"""
WAIT_FOR_TWO = """
import os, signal, sys
sys.stdout.write(f"nodes {os.environ['GROUP_WORLD_SIZE']}\\n")
sys.stdout.flush()
if os.environ["GROUP_WORLD_SIZE"] == "1":
    signal.pause()
"""
HANG = "import signal, sys; sys.stdout.write('ready\\n'); sys.stdout.flush(); signal.pause()"


@pytest.fixture(params=BACKENDS, name="backend")
def _backend(request):
    return request.param


@pytest.fixture(name="server")
def _server(backend, tmp_path):
    """Return an etcd that a test may stop and start again."""
    with EtcdServer(v2=backend == "etcd-v2", data_dir=str(tmp_path / "etcd")) as server:
        yield server


@pytest.fixture(name="meeting_there")
def _meeting_there(backend, server):
    return ["--rdzv-backend", backend, "--rdzv-endpoint", server.get_endpoint()]


@pytest.fixture(name="agent")
def _agent(elrun, meeting_there):
    """Start an agent of the job."""

    def start(*args, **options):
        return elrun(*meeting_there, "--rdzv-id", "job/1", *args, **options)

    return start


def test_two_agents_form_one_job(agent, script):
    """World size and ranks span both; neither says anything on standard error."""
    path = script(ALL_REDUCE)
    jobs = [agent("--nnodes", 2, "--nproc-per-node", 2, path) for _ in range(2)]

    ends = [job.finish() for job in jobs]

    assert [(0, "sum 4 restart 0\n" * 2)] * 2 == [end[:2] for end in ends], ends
    assert not any("Traceback" in end[2] or "urllib3" in end[2] for end in ends)


def test_a_failure_restarts_the_workers_of_all_nodes(agent, script):
    """Whichever node it happened on, every node starts again."""
    jobs = [agent("--nnodes", 2, "--max-restarts", 1, script(FAILS_ONCE)) for _ in range(2)]

    ends = [job.finish() for job in jobs]

    assert [(0, 1)] * 2 == [(code, out.count("attempt 1\n")) for code, out, _ in ends], ends


def test_a_late_node_joins_in_a_new_round(agent, script):
    """With ``--nnodes 1:2``, the first trains alone until the second comes."""
    # Long enough for the first node to be back before the second one begins without it.
    options = ["--nnodes", "1:2", "--rdzv-conf", "last_call_timeout=4", script(WAIT_FOR_TWO)]
    first = agent(*options)
    first.wait_for_line("nodes 1")
    second = agent(*options)

    assert [(0, "nodes 1\nnodes 2\n"), (0, "nodes 2\n")] == [
        job.finish()[:2] for job in (first, second)
    ]


def test_etcd_may_be_killed_and_come_back(elrun, meeting_there, server, backend, tmp_path):
    """The job goes on, and the failure after that restarts it as ever."""
    job = RunningJob(elrun, meeting_there, tmp_path / "go")
    port = server.get_port()
    server.stop()
    again = EtcdServer(v2=backend == "etcd-v2", data_dir=str(tmp_path / "etcd"), port=port)
    with again:
        job.go.touch()
        ends = job.ends()

    assert RunningJob.WELL == [end[:2] for end in ends], ends


def test_etcd_that_stays_away_ends_the_job(agent, script, server):
    """Exit code 75, and the endpoint in the sentence; the workers are stopped."""
    endpoint = server.get_endpoint()
    options = ("--nnodes", 2, "--rdzv-conf", "store_patience=10")
    jobs = [agent(*options, script(HANG)) for _ in range(2)]
    for job in jobs:
        job.wait_for_line("ready")
    server.stop()
    ends = [job.finish() for job in jobs]

    assert [75, 75] == [end[0] for end in ends], ends
    assert all(f"etcd at {endpoint} could not be reached" in end[2] for end in ends)
