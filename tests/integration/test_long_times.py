"""Times that are longer than the kernel's calls take: people write them for "never"."""

import signal

import pytest

pytestmark = pytest.mark.integration

TIMES = ["3000000", "1e12", "1e308", "inf"]
WAITS_FOR_RANK_1 = """
import os, signal, sys
sys.stdout.write(f"rank {os.environ['RANK']}\\n")
sys.stdout.flush()
if os.environ["RANK"] == "1":
    sys.stdin.readline()
"""
SETTINGS = (
    "join_timeout",
    "last_call_timeout",
    "survivor_timeout",
    "heartbeat_patience",
    "store_patience",
    "reconnect_patience",
)


@pytest.fixture(name="nodes")
def _nodes(elrun, script, vacant_endpoint):
    """Start two nodes for which every time is as long."""

    def start(time_s):
        options = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
        times = ("--monitor-interval", "--shutdown-timeout", "--exit-barrier-timeout")
        options += tuple(word for option in times for word in (option, time_s))
        values = dict.fromkeys(SETTINGS, time_s)
        options += ("--rdzv-conf", ",".join(f"{key}={value}" for key, value in values.items()))
        environment = {
            "TORCH_ELASTIC_EXIT_BARRIER_TIMEOUT": time_s,
            "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": time_s,
        }
        program = script(WAITS_FOR_RANK_1)
        return [
            elrun(*options, "--rdzv-id", "job", program, stdin=-1, env=environment)
            for _ in range(2)
        ]

    return start


@pytest.mark.parametrize("time_s", TIMES)
def test_nodes_that_would_wait_for_ever_finish_together(nodes, time_s):
    """One is long at the exit barrier when the other's worker ends."""
    jobs = nodes(time_s)
    ranks = {job.wait_for_line("rank"): job for job in jobs}
    ranks["rank 1"].process.stdin.write("go on\n")
    ranks["rank 1"].process.stdin.flush()

    ends = [job.finish() for job in jobs]

    assert [0, 0] == [code for code, _, _ in ends], ends


@pytest.mark.parametrize("time_s", TIMES)
def test_a_signal_is_heard_during_such_a_wait(nodes, time_s):
    """In the middle of the job, and at the exit barrier."""
    jobs = nodes(time_s)
    for job in jobs:
        job.wait_for_line("rank")

    for job in jobs:
        job.signal(signal.SIGTERM)

    ends = [job.finish() for job in jobs]
    assert [143, 143] == [code for code, _, _ in ends], ends
