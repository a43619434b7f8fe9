"""Agents that are killed, paused or replaced while a job of several nodes runs over c10d."""

import re
import select
import signal
import socket

import pytest
from job_kit import can_connect, until

pytestmark = pytest.mark.integration

HANG = """
import os, signal, sys
nodes = os.environ["GROUP_WORLD_SIZE"]
sys.stdout.write(f"nodes {nodes} restart {os.environ['TORCHELASTIC_RESTART_COUNT']}\\n")
sys.stdout.flush()
signal.pause()
"""
REDUCE_AND_HANG = """
import os, sys, torch, torch.distributed as dist
dist.init_process_group("gloo")
one = torch.ones(1)
dist.all_reduce(one)
sys.stdout.write(f"sum {int(one)} restart {os.environ['TORCHELASTIC_RESTART_COUNT']}\\n")
sys.stdout.flush()
while True:
    dist.all_reduce(one)
"""


@pytest.fixture(name="agents")
def _agents(elrun, vacant_endpoint):
    """Start agents of one job, the one that hosts the store first."""

    def start(count, *args):
        where = ["--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint]
        jobs = []
        for _ in range(count):
            jobs.append(elrun(*where, "--rdzv-id", "job", *args))
            until(lambda: can_connect(vacant_endpoint))
        return jobs

    return start


def wait_for_lines(jobs, line):
    return [job.wait_for_line(line) for job in jobs]


def stop(jobs):
    """End a job, and return what its agents wrote to standard output."""
    for job in jobs:
        job.signal(signal.SIGTERM)
    return [job.finish()[1] for job in jobs]


def lose_one_of_three(jobs, word):
    """Kill an agent as soon as all say that they run; return when the others say so again."""
    wait_for_lines(jobs, f"{word} 3")
    jobs.pop().signal(signal.SIGKILL)
    wait_for_lines(jobs, f"{word} 2")


def test_survivors_of_a_killed_node_go_on(agents, script):
    """With a world that is smaller, and no restart spent."""
    jobs = agents(3, "--nnodes", "2:3", script(HANG))

    lose_one_of_three(jobs, "nodes")

    assert ["nodes 3 restart 0\nnodes 2 restart 0\n"] * 2 == stop(jobs)


@pytest.mark.parametrize("max_restarts", [0, 1])
def test_collectives_that_fail_with_a_lost_node_cost_nothing(agents, script, max_restarts):
    """Its peers' workers fail before the node is missed; that is put down to the node."""
    options = ["--nnodes", "2:3", "--max-restarts", max_restarts]
    jobs = agents(3, *options, script(REDUCE_AND_HANG))

    lose_one_of_three(jobs, "sum")

    assert ["sum 3 restart 0\nsum 2 restart 0\n"] * 2 == stop(jobs)


def test_a_short_pause_is_no_loss(agents, script):
    """An agent that stands still for a second, of five that it may, stays in its round."""
    conf = "heartbeat_patience=5"
    jobs = agents(3, "--nnodes", "2:3", "--rdzv-conf", conf, script(HANG))
    wait_for_lines(jobs, "nodes 3")
    jobs[1].signal(signal.SIGSTOP)
    select.select([], [], [], 1)
    jobs[1].signal(signal.SIGCONT)
    leaver = jobs.pop()

    leaver.signal(signal.SIGTERM)

    wait_for_lines(jobs, "nodes 2")
    assert ["nodes 3 restart 0\nnodes 2 restart 0\n"] * 2 == stop(jobs)


def test_a_node_that_wakes_up_too_late_joins_again(agents, script):
    """It was thrown out, stops its workers, and the next round has it as a newcomer."""
    conf = "heartbeat_interval=0.1,heartbeat_patience=1"
    jobs = agents(3, "--nnodes", "2:3", "--rdzv-conf", conf, script(HANG))
    wait_for_lines(jobs, "nodes 3")
    sleeper, others = jobs[1], [jobs[0], jobs[2]]
    sleeper.signal(signal.SIGSTOP)
    wait_for_lines(others, "nodes 2")

    sleeper.signal(signal.SIGCONT)

    wait_for_lines(jobs, "nodes 3")
    assert "nodes 3 restart 0\n" * 2 == stop(jobs)[1]


def test_a_new_agent_takes_a_killed_ones_place(agents, script):
    """With ``--nnodes 2:2``, the survivor waits for it."""
    options = ["--nnodes", "2:2", script(HANG)]
    first, second = agents(2, *options)
    wait_for_lines([first, second], "nodes 2")
    second.signal(signal.SIGKILL)

    (third,) = agents(1, *options)

    wait_for_lines([first, third], "nodes 2")
    assert ["nodes 2 restart 0\n" * 2, "nodes 2 restart 0\n"] == stop([first, third])


def test_the_loss_of_the_stores_host_ends_the_others(agents, vacant_endpoint, script):
    """They stop their workers, name the endpoint, and a scheduler may requeue the job."""
    host, *others = agents(3, "--nnodes", "3", script(HANG))
    wait_for_lines([host, *others], "nodes 3")

    host.signal(signal.SIGKILL)

    ends = [job.finish() for job in others]
    assert [75, 75] == [code for code, _, _ in ends]
    assert all(vacant_endpoint in err for _, _, err in ends)


def test_survivors_that_wait_in_vain_name_who_is_missing(agents, script):
    """Exit code 75, and a sentence that says which machine to look at."""
    conf = "join_timeout=6,heartbeat_interval=0.2"
    jobs = agents(3, "--nnodes", "3", "--rdzv-conf", conf, script(HANG))
    wait_for_lines(jobs, "nodes 3")
    jobs.pop().signal(signal.SIGKILL)

    ends = [job.finish() for job in jobs]

    here = socket.gethostname()
    there = (
        rf"2 of 3 nodes joined within 6 s .*: {here} \(2 nodes\); missing since round 0: {here} "
    )
    assert [75, 75] == [code for code, _, _ in ends]
    assert any(re.search(there, err) for _, _, err in ends), ends
