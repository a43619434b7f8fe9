"""No agent imports torch, whatever the rendezvous, and so it stays small."""

from pathlib import Path

import pytest
from elrun.rendezvous.stores.etcd.server import EtcdServer

pytestmark = pytest.mark.integration

LARGEST_AGENT_KB = 60_000
"""Three times what an agent of several nodes has; torch alone would be 200 MB."""

IMPORT_AND_HANG = """
import os, signal, sys, torch
sys.stdout.write(f"torch is here {'libtorch' in open('/proc/self/maps').read()}\\n")
sys.stdout.flush()
signal.pause()
"""


@pytest.fixture(name="start", params=["solo", "static", "c10d", "etcd-v2", "etcd-v3"])
def _start(request, elrun, vacant_endpoint):
    """Return what starts the agents of a job, given the worker's script."""
    host, port = vacant_endpoint.split(":")
    several = ["--nnodes", 2, "--rdzv-id", "job"]
    match request.param:
        case "solo":
            yield lambda path: [elrun("--standalone", path)]
        case "static":
            where = [*several, "--master-addr", host, "--master-port", port, "--node-rank"]
            yield lambda path: [elrun(*where, rank, path) for rank in range(2)]
        case "c10d":
            where = [*several, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint]
            yield lambda path: [elrun(*where, path) for _ in range(2)]
        case backend:
            with EtcdServer(v2=backend == "etcd-v2") as server:
                endpoint = server.get_endpoint()
                where = [*several, "--rdzv-backend", backend, "--rdzv-endpoint", endpoint]
                yield lambda path: [elrun(*where, path) for _ in range(2)]


def look_at(jobs):
    """Return of each agent whether it maps libtorch, and its memory in kB; end the job."""
    found = []
    for job in jobs:
        job.wait_for_line("torch is here True")
    for job in jobs:
        process = Path(f"/proc/{job.process.pid}")
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        found.append(
            ("libtorch" in (process / "maps").read_text(), int(status["VmRSS"].split()[0]))
        )
    for job in jobs:
        job.process.terminate()
    for job in jobs:
        job.finish()
    return found


def test_no_agent_maps_libtorch(start, script):
    """Its workers import torch; the agent would pay for it in seconds and memory."""
    found = look_at(start(script(IMPORT_AND_HANG)))

    assert {(False, True)} == {(has_torch, size < LARGEST_AGENT_KB) for has_torch, size in found}
