"""Jobs of several ranks: the one that caused the end is named, and the others as what they are."""

import re

import pytest
from elrun.rendezvous.stores.etcd.server import EtcdServer

BEGIN = """
import os, signal, sys, time
import torch, torch.distributed as dist
dist.init_process_group("gloo")
rank = dist.get_rank()
def train():
    for step in range(1000):
        if step == 5:
            end(rank)
        dist.all_reduce(torch.ones(4))
"""
NO_SHARD = "if rank == 1: raise ValueError('no such shard')"
END = f"def end(rank):\n    {NO_SHARD}\n"
FINALLY = "try: train()\nfinally:\n    dist.destroy_process_group()\n    time.sleep({} * rank)"
PEERS = {
    "plain": (END + "train()", "ValueError: no such shard"),
    "in a finally": (END + FINALLY.format(0), "ValueError: no such shard"),
    "that ends slowly": (END + FINALLY.format(0.7), "ValueError: no such shard"),
    "by a signal": (
        "def end(rank):\n    if rank == 1: os.kill(os.getpid(), signal.SIGUSR1)\ntrain()",
        "rank 1 was killed by SIGUSR1",
    ),
    "without a word": (
        "def end(rank):\n    if rank == 1: os._exit(7)\ntrain()",
        "rank 1 exited with code 7",
    ),
}


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("preload", [(), ("--preload", "torch")], ids=["executed", "preloaded"])
def test_a_rank_that_lost_its_peer_is_not_the_cause(elrun, script, name, preload):
    """Whoever was gone first."""
    source, words = PEERS[name]

    job = elrun("--standalone", "--nproc-per-node", 2, *preload, script(BEGIN + source))
    code, _, err = job.finish()

    head, _, rest = err.partition("elrun: script.py failed: ")[2].partition("\n\n")
    assert head.startswith("rank 1 ")
    assert words in head
    assert ("consequence" in rest) == ("rank 0 failed as a consequence: RuntimeError: [" in rest)
    assert (0, "peer") != (code, "peer" in head)


OTHER_PORTS = {
    "MASTER_PORT": "os.environ['MASTER_PORT'] = '{}'\ninit()",
    "an address": "init('tcp://127.0.0.1:{}', rank=int(os.environ['RANK']), world_size=2)",
}


@pytest.mark.parametrize("name", OTHER_PORTS)
def test_a_store_that_no_rank_opens_is_named(elrun, script, vacant_endpoint, name):
    """The script has set another port, and each rank waits there for a store: none has gone."""
    port = vacant_endpoint.rpartition(":")[2]
    source = f"""
import datetime, os
import torch.distributed as dist
def init(address="env://", **settings):
    wait = datetime.timedelta(seconds=2)
    dist.init_process_group("gloo", address, timeout=wait, **settings)
{OTHER_PORTS[name].format(port)}
"""

    err = elrun("--standalone", "--nproc-per-node", 2, script(source)).finish()[2]

    head = err.partition("elrun: script.py failed: ")[2].partition("\n\n")[0]
    assert "DistNetworkError" in head
    assert f"init_process_group opens none at port {port}, as" in head
    assert "another rank" not in head


def test_a_rank_that_leaves_too_early_is_named(elrun, script):
    """It ended with 0, and so did not fail; the others can't say why they have lost it."""
    source = BEGIN + "def end(rank):\n    if rank == 1: os._exit(0)\ntrain()"

    err = elrun("--standalone", "--nproc-per-node", 2, script(source)).finish()[2]

    head = err.partition("elrun: script.py failed: ")[2].partition("\n\n")[0]
    assert "rank 1 had ended with exit code 0 before" in head


TWO_FAILURES = """
import os, threading, time
if os.environ["RANK"] == "0":
    threading.Thread(target=time.sleep, args=(60,)).start()
    raise ValueError("no such shard")
while not os.path.exists(os.environ["TORCHELASTIC_ERROR_FILE"].replace("/1/", "/0/")):
    time.sleep(0.01)
time.sleep(0.05)  # a file's time is no finer than some milliseconds
raise KeyError("later")
"""


def test_of_two_failures_the_earlier_is_the_cause(elrun, script):
    """Its rank waits for a thread, and is stopped; the other is named with its own words."""
    job = elrun("--standalone", "--nproc-per-node", 2, script(TWO_FAILURES))
    code, _, err = job.finish()

    head, _, rest = err.partition("elrun: script.py failed: ")[2].partition("\n\n")
    assert (1, True) == (code, head.startswith("rank 0 exited with code 1"))
    assert "ValueError: no such shard" in head
    assert "rank 1 failed, too: KeyError: 'later'" in rest


def test_a_node_that_lost_its_peer_is_not_the_cause(elrun, script, vacant_endpoint):
    """The cause is on another node, which ends slowly; both screens name it."""
    source = script(BEGIN + PEERS["that ends slowly"][0])
    options = ["--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint]
    jobs = [elrun(*options, "--rdzv-id", "job", source) for _ in range(2)]

    summaries = [job.finish()[2].partition("elrun: script.py failed: ")[2] for job in jobs]

    assert [("rank 1", True)] * 2 == [
        (each[:6], "ValueError: no such shard" in each) for each in summaries
    ]


# A file of each rank tells the others that it has failed; no process has to import torch.
PLAIN = """
import os, signal, threading, time
rank = int(os.environ["RANK"])
def has_failed(rank):
    open(f"{rank}.failed", "w").close()
def await_failure(rank):
    while not os.path.exists(f"{rank}.failed"):
        time.sleep(0.01)
CONSEQUENCE = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")
"""
OVER_NODES = {
    "two exceptions, 50 ms apart": (
        PLAIN
        + """
if rank == 1:
    has_failed(1)
    raise ValueError("no such shard")
await_failure(1)
time.sleep(0.05)
raise KeyError(f"later, on {rank}")
""",
        r"rank \d .*\n  (ValueError: no such shard|KeyError: 'later, on \d')",
    ),
    "the guilty one never ends": (
        PLAIN
        + """
if rank == 1:
    threading.Thread(target=time.sleep, args=(600,)).start()
    threading.Timer(0.3, has_failed, [1]).start()
    raise ValueError("no such shard")
await_failure(1)
raise CONSEQUENCE
""",
        r"rank 1 .*\n  ValueError: no such shard",
    ),
    "a signal, and peers that raise": (
        PLAIN
        + """
if rank == 1:
    has_failed(1)
    os.kill(os.getpid(), signal.SIGKILL)
await_failure(1)
raise CONSEQUENCE
""",
        r"rank 1 was killed by SIGKILL .*\n  ",
    ),
    "an end without a word": (
        PLAIN
        + """
if rank == 1:
    has_failed(1)
    os._exit(7)
await_failure(1)
raise CONSEQUENCE
""",
        r"rank 1 exited with code 7 .*\n",
    ),
    "nobody knows": (
        PLAIN + "if rank == 1: raise SystemExit(0)\nraise CONSEQUENCE",
        r"rank \d .*\n  RuntimeError: \[gloo/transport/tcp/pair.cc:547\] Connection closed by peer",
    ),
}
WITH_TORCH = {
    "slow in its finally": (
        BEGIN + PEERS["that ends slowly"][0],
        r"rank 1 .*\n  ValueError: no such shard",
    ),
    "killed": (
        BEGIN
        + "def end(rank):\n    if rank == 1: os.kill(os.getpid(), signal.SIGKILL)\n"
        + FINALLY.format(0),
        r"rank 1 was killed by SIGKILL .*\n  ",
    ),
    "gone with exit code 0": (
        BEGIN + "def end(rank):\n    if rank == 1: os._exit(0)\n" + FINALLY.format(0),
        r"rank [02] .*\n  RuntimeError: ",
    ),
    "still loading data": (
        """
import datetime, os, signal
if os.environ["RANK"] == "1": signal.pause()
import torch.distributed as dist
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=2))
""",
        r"rank [02] .*\n  \S*DistStoreError: ",
    ),
}


@pytest.fixture(params=["c10d", "etcd-v3"], name="meeting")
def _meeting(request):
    """Options that say where the nodes of a job meet."""
    if request.param == "c10d":
        endpoint = request.getfixturevalue("vacant_endpoint")
        yield ["--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint]
        return
    with EtcdServer() as server:
        yield ["--rdzv-backend", "etcd-v3", "--rdzv-endpoint", server.get_endpoint()]


def assert_all_name_it(elrun, options, nodes, path, pattern):
    """Every agent begins with the same cause, and ends with the same code."""
    options = ["--nnodes", nodes, *options, "--rdzv-id", "job", path]
    jobs = [elrun(*options, env={"COLUMNS": "1000"}) for _ in range(nodes)]

    ends = [job.finish() for job in jobs]

    tells = [err.partition("elrun: script.py failed: ")[2] for _, _, err in ends]
    heads = ["\n".join(each.splitlines()[:2]) for each in tells]
    assert ([heads[0]] * nodes, [ends[0][0]] * nodes) == (heads, [code for code, _, _ in ends])
    assert re.match(pattern, heads[0]), tells


@pytest.mark.parametrize("nodes", [2, 3])
@pytest.mark.parametrize("name", OVER_NODES)
def test_all_nodes_name_one_cause(elrun, script, meeting, name, nodes):
    """Whichever node knows it: also one that sees it only when the verdict names another rank."""
    source, pattern = OVER_NODES[name]

    assert_all_name_it(elrun, meeting, nodes, script(source), pattern)


@pytest.mark.parametrize("name", WITH_TORCH)
def test_all_nodes_of_a_collective_name_one_cause(elrun, script, meeting, name):
    """The same with gloo, whose own words tell of lost peers."""
    source, pattern = WITH_TORCH[name]
    nodes = 2 if "c10d" in meeting else 3

    assert_all_name_it(elrun, meeting, nodes, script(source), pattern)


def test_a_node_whose_workers_run_on_names_the_failure_of_another(elrun, script, vacant_endpoint):
    """None of its own has failed; it ends with the same sentence and exit code."""
    source = script("import os, time\nif os.environ['RANK'] == '1': raise ValueError('x')\n"
                    "time.sleep(600)")  # fmt: skip
    options = ["--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint]
    jobs = [elrun(*options, "--rdzv-id", "job", source) for _ in range(2)]

    ends = [job.finish() for job in jobs]

    assert [(1, True)] * 2 == [(code, "ValueError: x" in err) for code, _, err in ends]
