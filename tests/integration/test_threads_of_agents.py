"""An agent of a c10d job has two threads, its loop and its node's; the host's server has another.

ARCHITECTURE.md lists all threads. That of standard error begins with the first line.
"""

import signal

import pytest

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
OF_ALL = ["MainThread", "elrun-node"]


def test_no_thread_of_an_agent_reads_the_store_alone(elrun, script, vacant_endpoint):
    """The node's own thread does so; the host of the store has the server's thread beside it."""
    where = ["--nnodes", 2, "--rdzv-id", "job", "--rdzv-endpoint", vacant_endpoint]
    path = script(WORKER)
    command = ("-c", AGENT)
    jobs = [elrun(*where, "--rdzv-backend", "c10d", path, command=command) for _ in range(2)]
    for job in jobs:
        job.wait_for_line("running")
    for job in jobs:
        job.signal(signal.SIGRTMIN)
    lines = [job.wait_for_line("threads") for job in jobs]
    found = [[name for name in line.split()[1:] if name != "elrun-stderr"] for line in lines]
    for job in jobs:
        job.signal(signal.SIGTERM)
    for job in jobs:
        job.finish()

    assert sorted([OF_ALL, [*OF_ALL, "elrun-store"]]) == sorted(found)
