"""Workers that fail in whichever way since a node is lost: that costs the job no restart."""

import re
import signal

import pytest
from elrun.rendezvous.stores.etcd.server import EtcdServer
from job_kit import can_connect, until

# Ends as it is told when a peer has gone: not by the error of the connection. The workers of a
# later attempt end well.
PROGRAM = """\
import os, select, signal, socket, sys, time
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
restarts = os.environ["TORCHELASTIC_RESTART_COUNT"]
place = "peers" + os.environ["MASTER_PORT"]
if rank == 0:
    if os.path.exists(place):  # of an earlier attempt
        os.unlink(place)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(place)
        server.listen()
        peers = [server.accept()[0] for _ in range(1, world)]
else:
    while True:
        peers = [socket.socket(socket.AF_UNIX)]
        try:
            peers[0].connect(place)
            break
        except (FileNotFoundError, ConnectionRefusedError):
            time.sleep(0.02)
if rank == 0:
    is_first = not os.path.exists("begun")
    open("begun", "w").close()
    for peer in peers:
        peer.send(b"!" if is_first else b"?")
else:
    is_first = peers[0].recv(1) == b"!"
sys.stdout.write(f"world {world}, restarts {restarts}\\n")
sys.stdout.flush()
if is_first:
    if sys.argv[2:] != [str(rank)]:
        select.select(peers, [], [])
    else:
        time.sleep(0.5)
    exec(sys.argv[1])
"""
ENDS = {
    "another exception": "raise ValueError('the batch is broken')",
    "an exit code": "sys.exit(3)",
    "a signal": "os.kill(os.getpid(), signal.SIGABRT)",
}
LOST = "which costs no restart"
COUNTED = r"\(restart 1 of 3\)"


@pytest.fixture(name="start")
def _start(elrun, script):
    """Return what starts an agent, by its options."""
    path = script(PROGRAM)

    def start(meeting, end, *options, arguments=()):
        common = ["--rdzv-id", "job", "--max-restarts", 3, *options]
        return elrun(*common, *meeting, path, end, *arguments)

    return start


@pytest.fixture(params=["c10d", "etcd-v3"], name="meeting")
def _meeting(request, vacant_endpoint):
    if request.param == "etcd-v3":
        with EtcdServer() as server:
            yield ["--rdzv-backend", "etcd-v3", "--rdzv-endpoint", server.get_endpoint()]
        return
    yield ["--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint]


def begin(start, meeting, end, *options, nodes="2:3"):
    """Return the agents of a job whose workers run; the first one hosts the store of c10d."""
    first = start(meeting, end, "--nnodes", nodes, *options)
    until(lambda: can_connect(meeting[-1]))
    jobs = [first, *(start(meeting, end, "--nnodes", nodes, *options) for _ in range(2))]
    for job in jobs:
        job.wait_for_line("world 3")
    return jobs


def said(ends, words):
    return [bool(re.search(words, " ".join(err.split()))) for _, _, err in ends]


@pytest.mark.parametrize("end", ENDS)
def test_a_failure_that_follows_a_lost_node_costs_nothing(start, meeting, end):
    """The workers' errors say nothing of a peer, and are known before the loss is."""
    jobs = begin(start, meeting, ENDS[end])

    jobs[2].signal(signal.SIGKILL)
    ends = [job.finish() for job in jobs[:2]]

    assert [0, 0] == [code for code, _, _ in ends], ends
    assert [True, True] == ["world 2, restarts 0" in out for _, out, _ in ends], ends
    assert ([True, True], [False, False]) == (said(ends, LOST), said(ends, COUNTED)), ends


@pytest.mark.parametrize("rule", [["--no-restart-on", "ValueError"], ["--fuse", 1]])
def test_no_rule_ends_the_job_for_a_failure_that_follows_a_lost_node(start, meeting, rule):
    """A decision that nothing can take back waits until the other nodes have beaten."""
    jobs = begin(start, meeting, ENDS["another exception"], *rule)

    jobs[2].signal(signal.SIGKILL)
    ends = [job.finish() for job in jobs[:2]]

    assert [0, 0] == [code for code, _, _ in ends], ends
    assert [True, True] == ["world 2, restarts 0" in out for _, out, _ in ends], ends


def test_a_static_node_that_comes_back_costs_nothing(start, vacant_endpoint):
    """Its rank shows that it was lost, even where it is there before its silence is noticed."""
    host, port = vacant_endpoint.split(":")
    end = ENDS["another exception"]

    def node(rank):
        meeting = ["--master-addr", host, "--master-port", port, "--node-rank", rank]
        return start(meeting, end, "--nnodes", 3)

    jobs = [node(rank) for rank in range(3)]
    for job in jobs:
        job.wait_for_line("world 3")

    jobs[2].signal(signal.SIGKILL)
    jobs[2].finish()
    jobs[2] = node(2)
    ends = [job.finish() for job in jobs]

    assert [0, 0, 0] == [code for code, _, _ in ends], ends
    assert [True] * 3 == ["world 3, restarts 0" in out for _, out, _ in ends], ends
    assert [False] * 3 == said(ends, COUNTED), ends


def test_a_failure_without_a_lost_node_costs_a_restart_as_ever(start, meeting):
    """Every node says so, once the next round has begun."""
    end = ENDS["another exception"]
    jobs = [start(meeting, end, "--nnodes", 2, arguments=["1"]) for _ in range(2)]

    ends = [job.finish() for job in jobs]

    assert [0, 0] == [code for code, _, _ in ends], ends
    assert [True, True] == ["world 2, restarts 1" in out for _, out, _ in ends], ends
    assert ([False, False], [True, True]) == (said(ends, LOST), said(ends, COUNTED)), ends
