"""Connections between agents that break while both ends live, and strangers at the endpoint."""

import signal
import subprocess
import sys

import pytest
from cable_kit import Cable
from job_kit import can_connect, until

pytestmark = pytest.mark.integration

TELL_AND_WAIT = """
import os, sys
sys.stdout.write(f"nodes {os.environ['GROUP_WORLD_SIZE']}\\n")
sys.stdout.flush()
open(sys.argv[1]).read()
"""


@pytest.fixture(name="job")
def _job(request, elrun, script, tmp_path, vacant_endpoint):
    """Return two agents whose workers run, the cable between them, and what ends the workers."""
    words = [tmp_path / f"word{number}" for number in range(2)]
    path = script(TELL_AND_WAIT)
    cable = Cable(int(vacant_endpoint.rpartition(":")[2]))
    patience = getattr(request, "param", "reconnect_patience=0.15")
    places = [
        (vacant_endpoint, f"is_host=true,{patience}"),
        (str(cable.endpoint), f"is_host=false,{patience}"),
    ]
    jobs = []
    for word, (endpoint, conf) in zip(words, places, strict=True):
        subprocess.run(["mkfifo", word], check=True)
        options = ["--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--rdzv-conf", conf]
        jobs.append(elrun(*options, "--rdzv-id", "job", "--nnodes", "1:2", path, word))
        if len(jobs) == 1:
            jobs[0].wait_for_line("nodes 1")
    for job in jobs:
        job.wait_for_line("nodes 2")

    def end():
        for word in words:
            word.write_text("go on")
        return [job.finish() for job in jobs]

    yield jobs, cable, end
    cable.close()


@pytest.mark.parametrize("job", ["reconnect_patience=60"], indirect=True)
def test_a_connection_that_breaks_costs_no_round(job):
    """The agent comes back to the same store, and the workers notice nothing."""
    _, cable, end = job
    for _ in range(5):
        assert cable.made.acquire(timeout=30)
        cable.break_off()
    assert cable.made.acquire(timeout=30)
    ends = end()

    assert [(0, "nodes 1\nnodes 2\n"), (0, "nodes 2\n")] == [each[:2] for each in ends], ends


def test_an_agent_that_stays_away_is_missed_and_comes_back(job):
    """The others form a round without it, and then one with it."""
    jobs, cable, end = job
    cable.is_down = True
    cable.break_off()
    jobs[0].wait_for_line("nodes 1")
    cable.is_down = False
    for each in jobs:
        each.wait_for_line("nodes 2")
    ends = end()

    assert [0, 0] == [each[0] for each in ends], ends
    assert "is gone: its agent's connection has ended" in " ".join(ends[0][2].split())


TORCH_CLIENT = """
import sys
from datetime import timedelta
from torch.distributed import DistError, TCPStore
try:
    TCPStore("127.0.0.1", int(sys.argv[1]), is_master=False, timeout=timedelta(seconds=5))
except DistError:
    sys.exit(3)
"""


def test_a_client_of_torch_s_store_is_refused_and_named(elrun, script, vacant_endpoint):
    """A torchrun agent can't join a job of elrun."""
    options = ["--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint, "--nnodes", 2]
    job = elrun(*options, script(""))
    until(lambda: can_connect(vacant_endpoint))
    port = vacant_endpoint.rpartition(":")[2]
    client = subprocess.run(
        [sys.executable, "-c", TORCH_CLIENT, port], stderr=subprocess.PIPE, check=False
    )
    said = next(line for line in job.process.stderr if "was refused" in line)
    job.signal(signal.SIGTERM)
    said += job.finish()[2]

    assert 3 == client.returncode, client.stderr
    assert (
        "a connection from 127.0.0.1 was refused, as torchrun or torch's TCPStore speaks there; "
        "every node of a job must run elrun"
    ) in " ".join(said.split())


TORCH_SERVER = """
import sys
from torch.distributed import TCPStore
store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
print(store.port, flush=True)
sys.stdin.read()
"""


def test_a_store_of_torch_s_at_the_endpoint_is_named(elrun, script):
    """An agent that comes to a torchrun job says so, and does not wait for ten minutes."""
    with subprocess.Popen(
        [sys.executable, "-c", TORCH_SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        endpoint = f"127.0.0.1:{int(server.stdout.readline())}"
        options = ["--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--nnodes", 2]
        conf = "is_host=false,store_patience=10"
        code, _, err = elrun(*options, "--rdzv-conf", conf, script("")).finish()
        server.stdin.close()

    assert 75 == code
    assert f"{endpoint} answers, but not as the rendezvous of an elrun job" in " ".join(err.split())
