"""Tells the failure that ended a job from those that followed from it.

When a rank of a collective ends, its peers find their connections closed, and raise. They are often
gone first: a script whose ``finally`` leaves the process group tells its peers before it ends. Who
looks at times alone names an innocent rank. So failures are told apart by what they say:

- A *consequence* says that a peer, or the store, has gone or was not there: gloo's closed and reset
  connections, NCCL's remote errors, time-outs and watchdog, torch's store errors, TensorPipe's end
  of a connection.
- So does an exception that such a one has led to: programs wrap what their libraries raise.
- Whatever else ends a worker is a cause.

The words are torch's and its libraries'; no type and no field says the same. They only decide who
is named first: all failures are shown.

The root cause is the earliest failure that is no consequence, and if all are consequences the
earliest. Within a node, failures are compared by the node's clock; between nodes the round's
verdict decides, since the store has put the nodes' words in an order and their clocks can't.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ...rendezvous.named_tuple import NamedTuple

WAIT_FOR_CAUSE_S = 3.0
"""How long a worker group goes on of which all that failed did so as a consequence: the rank that
caused it may end slowly, and a stop would end it before it can say why. Or its node is lost, which
costs no restart, and is known after the heartbeat's patience and one interval."""

_PEER_HAS_GONE = (
    "connection closed by peer",  # gloo
    "connection reset by peer",
    "connection closed by remote peer",  # NCCL's sockets
    "application timeout caused pair closure",
    "gloo connectfullmesh failed",
    "monitoredbarrier",
    "remote process exited or there was a network error",
    "remote process exiting prematurely",
    "ncclremoteerror",
    "watchdog caught collective operation timeout",
    "nccl communicator was aborted",
    "failed to recv, got 0 bytes",  # torch's store
    "did the remote server shutdown or crash",
    "this error originated at tensorpipe",
)
_GLOO = "gloo/transport"
_GLOO_HAS_LOST = ("broken pipe", "timed out", "timeout", "connection refused")
# Python's own, not those of `requests`. Of its kinds, the refused connection and the broken pipe
# may be the worker's fault.
_PEER_ERRORS = frozenset({"ConnectionError", "ConnectionResetError", "ConnectionAbortedError"})
_STORE_ERRORS = frozenset({"DistNetworkError", "DistStoreError"})
_OWN_FAULT = (
    "eaddrinuse",
    "address already in use",
    "failed to listen",
    "failed to bind",
    "permission denied",
    "name or service not known",
    "gai error",
)


_LIBRARIES = ("gloo", "nccl", "tensorpipe", "distnetworkerror", "diststoreerror")
"""Whose exceptions tell of a peer also where they are wrapped; another one may be of any server."""


class Symptoms(NamedTuple):
    """How a worker failed, as far as that tells a cause from a consequence.

    Args:
        message: What it said: an exception's type and text, or its last words.
        at_s: When, in seconds by the clock of its node; failures of one node are compared by it.
    """

    message: str = ""
    at_s: float = 0.0


def is_consequence(message: str) -> bool:
    """Return whether a failure says that a peer or the store has gone, or was never there.

    Args:
        message: As in ``Symptoms``.
    """
    name = message.partition(":")[0].strip()
    kind = name.rpartition(".")[2]
    text = message.lower()
    if any(each in text for each in _OWN_FAULT):
        return False
    return (
        kind in _STORE_ERRORS
        or name in _PEER_ERRORS
        or any(each in text for each in _PEER_HAS_GONE)
        or (_GLOO in text and any(each in text for each in _GLOO_HAS_LOST))
    )


def lost_peer_in(causes: Iterable[str]) -> str:
    """Return the earlier exception of a chain that says that a peer or the store has gone; or "".

    Args:
        causes: Type and text of each exception that led to the one that ended a worker.
    """
    return next(
        (
            each
            for each in causes
            if any(name in each.lower() for name in _LIBRARIES) and is_consequence(each)
        ),
        "",
    )


def root_of(failures: Mapping[int, Symptoms], named: int | None = None) -> int:
    """Return the rank whose failure is the root cause.

    Args:
        failures: At least one, by rank, all of one node.
        named: The rank that the round's verdict names. It stays the root cause, whichever failed
            earlier by a later look, unless it failed as a consequence and a cause is known now.
    """
    causes = {rank: each for rank, each in failures.items() if not is_consequence(each.message)}
    among = causes or failures
    return min(among, key=lambda rank: (rank != named, among[rank].at_s))


def in_order(failures: Mapping[int, Symptoms], named: int | None = None) -> Sequence[int]:
    """Return the ranks with the root cause first, then other causes, then consequences.

    Args:
        failures: By rank, all of one node.
        named: As in ``root_of``.
    """
    first = root_of(failures, named) if failures else None

    def place(rank: int) -> tuple[bool, bool, float]:
        message, at_s = failures[rank]
        return rank != first, is_consequence(message), at_s

    return sorted(failures, key=place)
