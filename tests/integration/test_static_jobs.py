"""Jobs of several agents that were told their ranks and the master's address, as Kubeflow does."""

import re
import signal
import socket

import pytest
from job_kit import until

pytestmark = pytest.mark.integration

ALL_REDUCE = """
import os, sys, torch, torch.distributed as dist
dist.init_process_group("gloo")
ranks = torch.tensor([float(os.environ["RANK"])])
dist.all_reduce(ranks)
names = "RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_RANK ROLE_NAME ROLE_RANK ROLE_WORLD_SIZE"
said = [os.environ[name] for name in names.split()]
sys.stdout.write(" ".join(said) + f" sum {int(ranks)}\\n")
dist.destroy_process_group()
os._exit(0)  # torch 2.13 aborts now and then when the interpreter is taken down around gloo
"""
SHOW = """
import os, sys
sys.stdout.write(" ".join(os.environ[name] for name in sys.argv[1:]) + "\\n")
"""
FAILS_ONCE = """
import os, signal, sys
attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
sys.stdout.write(f"attempt {attempt}\\n")
sys.stdout.flush()
if attempt == "0":
    sys.exit(7) if os.environ["RANK"] == os.environ["FAILS"] else signal.pause()
"""
FAIL_OR_HANG = (
    "import os, signal, sys; sys.exit(9) if os.environ['RANK'] == '2' else signal.pause()"
)
HANG = """
import os, signal, sys
sys.stdout.write(f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}\\n")
sys.stdout.flush()
signal.pause()
"""
GLOO_THAT_FAILS_TWICE = """
import os, sys, torch, torch.distributed as dist
dist.init_process_group("gloo")
one = torch.ones(1)
dist.all_reduce(one)
attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
sys.stdout.write(f"sum {int(one)} restart {attempt}\\n")
sys.stdout.flush()
dist.barrier()
if attempt == "2":
    os._exit(0)
if os.environ["RANK"] == "1":
    os._exit(3)
dist.barrier()
"""
OUTLIVES = """
import os, sys, torch.distributed as dist
store = dist.TCPStore(
    os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), None, False, wait_for_workers=False
)
if os.environ["RANK"] == "0":
    store.set("going", "1")
    os._exit(0)
store.get("going")
store.set("late", "1")
store.get("late")
sys.stdout.write("late\\n")
sys.stdout.flush()
os._exit(0)
"""


class Nodes:
    """Starts agents of one job by the variables that Kubeflow's trainer sets."""

    def __init__(self, elrun, endpoint):
        self.elrun = elrun
        self.host, self.port = endpoint.split(":")

    def start(self, rank, nodes, *args, workers=1, env=None, **options):
        variables = {
            "PET_NNODES": str(nodes),
            "PET_NPROC_PER_NODE": str(workers),
            "PET_NODE_RANK": str(rank),
            "PET_MASTER_ADDR": self.host,
            "PET_MASTER_PORT": self.port,
            **(env or {}),
        }
        return self.elrun(*args, env=variables, **options)


@pytest.fixture(name="nodes")
def _nodes(elrun, vacant_endpoint):
    return Nodes(elrun, vacant_endpoint)


def lines_of(ends):
    return [out.splitlines() for _, out, _ in ends]


def test_nodes_with_other_numbers_of_workers_form_one_job(nodes, script):
    """As ``PET_NPROC_PER_NODE=auto`` makes them; ranks and role ranks are torchrun's."""
    path = script(ALL_REDUCE)
    jobs = [
        nodes.start(rank, 3, "--role", role, path, workers=workers)
        for rank, (workers, role) in enumerate([(1, "a"), (2, "b"), (1, "a")])
    ]

    ends = [job.finish() for job in jobs]

    assert [0, 0, 0] == [code for code, _, _ in ends], ends
    assert [
        ["0 4 1 0 a 0 2 sum 6"],
        ["1 4 2 1 b 0 2 sum 6", "2 4 2 1 b 1 2 sum 6"],
        ["3 4 1 2 a 1 2 sum 6"],
    ] == [sorted(lines) for lines in lines_of(ends)]


def test_workers_find_what_the_user_said(nodes, script):
    """The address and the port, as given, on every node."""
    nodes.host = "localhost"
    path = script(SHOW)
    jobs = [nodes.start(rank, 2, path, "MASTER_ADDR", "MASTER_PORT") for rank in (1, 0)]

    assert [[f"localhost {nodes.port}"]] * 2 == lines_of([job.finish() for job in jobs])


@pytest.mark.parametrize("fails", ["0", "2"])
def test_a_failure_restarts_the_workers_of_all_nodes(nodes, script, fails):
    """Whichever node it happened on."""
    path = script(FAILS_ONCE)
    jobs = [
        nodes.start(rank, 2, "--max-restarts", 1, path, workers=2, env={"FAILS": fails})
        for rank in range(2)
    ]

    ends = [job.finish() for job in jobs]

    assert [(0, 2)] * 2 == [(code, out.count("attempt 1\n")) for code, out, _ in ends], ends


def test_every_node_ends_with_the_same_root_cause(nodes, script):
    """At once, when no restart is left: with its exit code, and its rank."""
    path = script(FAIL_OR_HANG)
    jobs = [nodes.start(rank, 3, path) for rank in range(3)]

    ends = [job.finish() for job in jobs]

    assert [9] * 3 == [code for code, _, _ in ends]
    assert [True] * 3 == ["rank 2" in err for _, _, err in ends], ends


def test_a_killed_node_is_missed_and_may_come_back(nodes, script):
    """As a container that is started again: with its rank, and at no cost."""
    path = script(HANG)
    jobs = [nodes.start(rank, 3, path) for rank in range(3)]
    for job in jobs:
        job.wait_for_line("rank")
    jobs[1].signal(signal.SIGKILL)

    back = nodes.start(1, 3, path)

    assert ["rank 0 of 3", "rank 1 of 3", "rank 2 of 3"] == [
        job.wait_for_line("rank") for job in (jobs[0], back, jobs[2])
    ]
    for job in (jobs[0], back, jobs[2]):
        job.signal(signal.SIGTERM)
    assert [143] * 3 == [job.finish()[0] for job in (jobs[0], back, jobs[2])]


def test_a_killed_node_that_does_not_come_back_is_named(nodes, script):
    """Exit code 75, on all others, after the time for it."""
    path = script(HANG)
    jobs = [nodes.start(rank, 3, "--rdzv-conf", "join_timeout=8", path) for rank in range(3)]
    for job in jobs:
        job.wait_for_line("rank")
    jobs.pop(1).signal(signal.SIGKILL)

    ends = [job.finish() for job in jobs]

    assert [75, 75] == [code for code, _, _ in ends]
    assert any("node rank 1 is missing" in err for _, _, err in ends), ends
    assert all("(node rank 1) is gone" in err for _, _, err in ends), ends


def test_the_loss_of_node_rank_0_ends_the_others(nodes, script):
    """It held what they met by."""
    path = script(HANG)
    jobs = [nodes.start(rank, 2, path) for rank in range(2)]
    for job in jobs:
        job.wait_for_line("rank")
    jobs[0].signal(signal.SIGKILL)

    code, _, err = jobs[1].finish()

    assert 75 == code
    assert f"{nodes.host}:{nodes.port}" in err


def test_nodes_that_were_told_other_numbers_are_refused_by_name(nodes, script):
    """Both are named, on both; nothing runs."""
    path = script(HANG)
    first = nodes.start(0, 2, path)
    until(lambda: can_connect(nodes))
    code, out, err = nodes.start(2, 3, path).finish()
    first.signal(signal.SIGTERM)
    first_code, _, first_err = first.finish()

    host = socket.gethostname()
    told = f"node rank 0 ({host}) was told --nnodes 2, and node rank 2 ({host}) --nnodes 3"
    assert (75, "", True) == (code, out, told in " ".join(err.split()))
    assert (143, True) == (first_code, told in " ".join(first_err.split()))


def test_a_node_that_never_comes_is_named_by_those_that_hear_of_the_end(nodes, script):
    """Node rank 0 gives up first, and closes the store that the others wait at."""
    first = nodes.start(0, 3, script(HANG))
    until(lambda: can_connect(nodes))
    second = nodes.start(1, 3, script(HANG))
    wait_for_word(second, "node rank 2 is missing")

    first.signal(signal.SIGTERM)

    assert 143 == first.finish()[0]
    code, _, err = second.finish()
    assert 75 == code
    assert re.search(r"lost: .*; before, 2 of 3 nodes .* node rank 2 is missing$", err.strip()), err


def test_a_master_address_that_can_not_be_resolved_is_told_on_node_rank_0(nodes, script):
    """The other nodes say so themselves, but their logs may be elsewhere."""
    nodes.host = "nosuch.invalid"
    job = nodes.start(0, 2, "--rdzv-conf", "join_timeout=14", script(HANG))
    sentence = "'nosuch.invalid' can't be resolved on this node: "

    wait_for_word(job, sentence)

    code, _, err = job.finish()
    assert (75, True) == (code, sentence in err), err


def wait_for_word(job, word):
    for line in job.process.stderr:
        if word in line:
            return
    raise AssertionError(job.finish())


def test_two_nodes_of_one_rank_are_refused_by_name(nodes, script):
    """The one that comes later."""
    path = script(HANG)
    first, second = nodes.start(0, 3, path), nodes.start(1, 3, path)
    until(lambda: can_connect(nodes))
    third = nodes.start(0, 3, path)
    code, _, err = third.finish()
    for job in (first, second):
        job.signal(signal.SIGTERM)
        job.finish()

    assert 75 == code
    assert "two nodes have --node-rank 0" in " ".join(err.split())
    assert f"pid {first.process.pid}" in err


def can_connect(nodes):
    with socket.socket() as probe:
        return probe.connect_ex((nodes.host, int(nodes.port))) == 0


def test_restarts_of_a_gloo_job_find_a_new_store_at_the_old_port(nodes, script):
    """The port is the user's; what an attempt left there is not."""
    path = script(GLOO_THAT_FAILS_TWICE)
    jobs = [nodes.start(rank, 2, "--max-restarts", 2, path) for rank in range(2)]

    ends = [job.finish() for job in jobs]

    assert [(0, "sum 2 restart 0\nsum 2 restart 1\nsum 2 restart 2\n")] * 2 == [
        (code, out) for code, out, _ in ends
    ], ends


def test_the_workers_store_outlives_rank_0(nodes, script):
    """Its node's agent serves it, and stays until the others are done."""
    jobs = [nodes.start(rank, 2, script(OUTLIVES)) for rank in range(2)]

    ends = [job.finish() for job in jobs]

    assert [(0, ""), (0, "late\n")] == [(code, out) for code, out, _ in ends], ends
