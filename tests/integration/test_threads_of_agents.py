"""An agent of a c10d job has two threads, its loop and its node's; the host's server has another.

ARCHITECTURE.md lists all threads. Those that a job of one node has, too, begin later: with the
first line on standard error, or once the job has lived for some seconds.
"""

import signal

import pytest
from certificate_kit import Authority, needs_openssl

pytestmark = pytest.mark.integration

AGENT = """
import runpy, signal, sys, threading

def show(*_):
    names = sorted(thread.name for thread in threading.enumerate())
    sys.stdout.write(f"threads {' '.join(names)}\\n")
    sys.stdout.flush()

signal.signal(signal.SIGRTMIN, show)
runpy.run_module("elrun", run_name="__main__", alter_sys=True)
"""
WORKER = """
import signal, sys
sys.stdout.write("running\\n")
sys.stdout.flush()
signal.pause()
"""
PROTECTIONS = [
    "plain",
    "secret",
    pytest.param("tls", marks=needs_openssl),
    pytest.param("secret and tls", marks=needs_openssl),
]
OF_LONG_JOBS = {"elrun-stderr", "elrun-control", "elrun-history", "elrun-report"}
OF_ALL = ["MainThread", "elrun-node"]


@pytest.fixture(name="protection", params=PROTECTIONS)
def _protection(request, tmp_path):
    """Return the settings that protect the store's connections."""
    settings = {}
    if "secret" in request.param:
        settings["secret_file"] = tmp_path / "secret"
        settings["secret_file"].write_text("open sesame")
        settings["secret_file"].chmod(0o600)
    if "tls" in request.param:
        authority = Authority(tmp_path / "authority")
        settings |= {"cacert": authority.path, **authority.certify("node")}
    conf = ",".join(f"{key}={value}" for key, value in settings.items())
    return ["--rdzv-conf", conf] if conf else []


def test_no_thread_of_an_agent_reads_the_store_alone(elrun, script, vacant_endpoint, protection):
    """The node's own thread does so; the host of the store has the server's thread beside it."""
    where = ["--nnodes", 2, "--rdzv-id", "job", "--rdzv-endpoint", vacant_endpoint, *protection]
    path = script(WORKER)
    command = ("-c", AGENT)
    jobs = [elrun(*where, "--rdzv-backend", "c10d", path, command=command) for _ in range(2)]
    for job in jobs:
        job.wait_for_line("running")
    for job in jobs:
        job.signal(signal.SIGRTMIN)
    lines = [job.wait_for_line("threads") for job in jobs]
    found = [[name for name in line.split()[1:] if name not in OF_LONG_JOBS] for line in lines]
    for job in jobs:
        job.signal(signal.SIGTERM)
    for job in jobs:
        job.finish()

    assert sorted([OF_ALL, [*OF_ALL, "elrun-store"]]) == sorted(found)
