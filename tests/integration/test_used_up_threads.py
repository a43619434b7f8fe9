"""Jobs whose agent gets no more threads from the system, by the time that they end."""

import signal

import pytest
from job_kit import can_connect, until

# From SIGUSR1 on each new thread would need a stack that no machine has.
PROGRAM = """
import signal, sys, threading
from elrun.launcher import main

signal.signal(signal.SIGUSR1, lambda *_: threading.stack_size(1 << 46))
main(sys.argv[1:])
"""
# Rank 0 takes its agent's threads away, with the first worker that follows.
FAIL = """
import os, signal, sys
if os.environ["RANK"] == "0":
    os.kill(os.getppid(), signal.SIGUSR1)
    sys.exit("out of luck")
signal.pause()
"""
RUN = """
import os, signal, sys
os.kill(os.getppid(), signal.SIGUSR1)
print("running", flush=True)
signal.pause()
"""


@pytest.fixture(name="job")
def _job(elrun, script):
    """Start an agent that loses its threads, with a worker."""

    def start(worker, *options):
        return elrun(*options, script(worker), command=(script(PROGRAM, "program.py"),))

    return start


def test_a_worker_s_failure_is_reported_without_threads(job):
    """Its error file, its log and elrun's own record are read and written by the main thread."""
    code, _, err = job(FAIL, "--standalone", "--nproc-per-node", 2, "--log-dir", "logs").finish()

    assert (1, True) == (code, "rank 0" in err), err
    assert 1 == err.count("Traceback"), err  # that of sys.exit in the script


def test_a_signal_ends_a_job_without_threads(job):
    """Nobody hears a farewell, and the exit code is that of the signal."""
    running = job(RUN, "--standalone")
    running.wait_for_line("running")
    running.signal(signal.SIGTERM)
    code, _, err = running.finish()

    # A worker that has lived for a second by then has its place told, too.
    last = err.splitlines()[-1]
    assert (143, "elrun: stopped by SIGTERM; none of its workers is left") == (code, last), err


@pytest.mark.parametrize("is_host", [True, False])
def test_a_node_without_threads_tells_the_other_why(job, elrun, script, vacant_endpoint, is_host):
    """Wherever the store is: both nodes end by the failure of rank 0, and none is lost."""
    meeting = ["--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint]
    starts = [
        lambda: job(FAIL, *meeting, "--node-rank", 0),
        lambda: elrun(*meeting, "--node-rank", 1, script(FAIL)),
    ]
    first, second = starts if is_host else reversed(starts)
    jobs = [first()]
    until(lambda: can_connect(vacant_endpoint))
    jobs.append(second())

    ends = [each.finish() for each in jobs]

    assert [1, 1] == [code for code, _, _ in ends], ends
    assert [True, True] == ["rank 0" in err for _, _, err in ends], ends
