"""Which failure ended a job: histories, and the rank that a person wants to hear of first."""

import pytest
from elrun.agent.failures.cause import Symptoms, in_order, is_consequence, lost_peer_in, root_of

CLOSED = (
    "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by "
    "peer [127.0.0.1]:38835. This is typically caused by a remote worker crashing."
)
RESET = (
    "RuntimeError: [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:537] Read error "
    "[127.0.0.1]:18071: Connection reset by peer. This is typically caused by a remote worker"
)
BROKEN = "RuntimeError: [third_party/gloo/gloo/transport/tcp/pair.cc:600] writev: Broken pipe"
LATE = "RuntimeError: [third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting"
REMOTE = (
    "DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3690, remote process exited or there "
    "was a network error, NCCL version 2.27.3"
)
WATCHDOG = (
    "c10::DistBackendError: [PG ID 0 PG GUID 0(default_pg) Rank 2] Watchdog caught collective "
    "operation timeout: WorkNCCL(SeqNum=7, OpType=ALLREDUCE) ran for 600012 milliseconds"
)
STORE = (
    "DistNetworkError: failed to recv, got 0 bytes. Connection was likely closed. Did the remote "
    "server shutdown or crash?"
)
WAITED = "DistStoreError: Timed out after 61 seconds waiting for clients. 1/2 clients joined."
BARRIER = "RuntimeError: Rank 1 failed to pass monitoredBarrier in 1000 ms"
RPC = "RuntimeError: eof (this error originated at tensorpipe/transport/shm/connection_impl.cc:259)"
IN_USE = (
    "DistNetworkError: The server socket has failed to listen on any local network address. "
    "port: 29500, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use"
)
NO_HOST = (
    "torch.distributed.DistNetworkError: The IPv4 network addresses of (nosuch, 29500) cannot be "
    "retrieved (gai error: -2 - Name or service not known)."
)
VALUE = "ValueError: no such shard"
CUDA = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB"
NCCL_USAGE = "DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:77, invalid usage, NCCL 2.27.3"


@pytest.mark.parametrize(
    "message",
    [
        *(CLOSED, RESET, BROKEN, LATE, REMOTE, WATCHDOG, STORE, WAITED, BARRIER, RPC),
        "ConnectionResetError: [Errno 104] Connection reset by peer",
        "ConnectionError: a peer is gone",
        "torch.distributed.DistStoreError: wait timeout after 300000ms, keys: /default_pg/0/0",
    ],
)
def test_a_word_about_a_peer_is_a_consequence(message):
    """Its end, or its absence, is somebody else's doing."""
    assert is_consequence(message)


@pytest.mark.parametrize(
    "message",
    [
        *("", VALUE, CUDA, IN_USE, NO_HOST, NCCL_USAGE),
        "RuntimeError: DataLoader worker (pid 12) is killed by signal: Killed.",
        "BrokenPipeError: [Errno 32] Broken pipe",
        "FileNotFoundError: [Errno 2] No such file or directory: 'peer'",
        "SystemExit: timed out",
        "requests.exceptions.ConnectionError: HTTPConnectionPool(host='hub', port=80)",
    ],
)
def test_whatever_else_ends_a_worker_is_a_cause(message):
    """Also a network's error that is this worker's own, and an end without a word."""
    assert not is_consequence(message)


HISTORIES = {
    "one failure": ([Symptoms()], [0]),
    "the first of two": ([Symptoms(VALUE, 0.05), Symptoms(VALUE, 0.0)], [1, 0]),
    "a peer that was gone first": ([Symptoms(CLOSED, 0.0), Symptoms(VALUE, 0.9)], [1, 0]),
    "two peers, one cause": (
        [Symptoms(CLOSED, 0.0), Symptoms(RESET, 0.1), Symptoms(VALUE, 0.2)],
        [2, 0, 1],
    ),
    "a second cause": (
        [Symptoms(CLOSED, 0.0), Symptoms(VALUE, 0.4), Symptoms(CUDA, 0.2)],
        [2, 1, 0],
    ),
    "a signal and its peers": ([Symptoms(RESET, 0.0), Symptoms("", 0.1)], [1, 0]),
    "an exit without a word": ([Symptoms(STORE, 0.0), Symptoms("", 0.3)], [1, 0]),
    "nothing but consequences": ([Symptoms(WAITED, 0.3), Symptoms(CLOSED, 0.1)], [1, 0]),
    "a watchdog's abort": ([Symptoms(WATCHDOG, 0.0), Symptoms(VALUE, 5.0)], [1, 0]),
    "a port in use": ([Symptoms(IN_USE, 0.2), Symptoms(STORE, 0.1)], [0, 1]),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_the_cause_comes_before_its_consequences(name):
    """The earliest failure that is none, then other causes, then consequences, as they came."""
    failures, order = HISTORIES[name]
    by_rank = dict(enumerate(failures))

    assert (order[0], order) == (root_of(by_rank), list(in_order(by_rank)))


def test_a_node_without_a_failure_of_its_own_has_no_order():
    """Its workers were stopped because of another node's."""
    assert [] == list(in_order({}))


def test_the_rank_that_others_were_told_of_stays_first():
    """A later look at the clock names no other rank; a cause still goes before a consequence."""
    failures = {0: Symptoms("ValueError: a", 2.0), 1: Symptoms("ValueError: b", 1.0)}
    gone = {0: Symptoms("RuntimeError: Connection closed by peer", 1.0), 1: failures[0]}

    assert [[1, 0], [0, 1]] == [list(in_order(failures)), list(in_order(failures, 0))]
    assert [1, 0] == list(in_order(gone, 0))
    assert [1, 0] == list(in_order(failures, 7))


GLOO = "RuntimeError: [gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer"


@pytest.mark.parametrize(
    ("causes", "expected"),
    [
        ([GLOO], GLOO),
        (["KeyError: 'lr'", GLOO], GLOO),
        (["DistStoreError: wait timeout"], "DistStoreError: wait timeout"),
        (["ConnectionResetError: [Errno 104] Connection reset by peer"], ""),
        (["requests.exceptions.ConnectionError: Max retries exceeded"], ""),
        (["ValueError: gloo is not available"], ""),
        ([], ""),
    ],
)
def test_a_lost_peer_is_found_behind_the_exception_that_wraps_it(causes, expected):
    """If a library of torch has raised it; another connection may have been to any server."""
    assert expected == lost_peer_in(causes)
