"""The backend ``c10d``: rounds over a store server, which the node at the endpoint hosts."""

from __future__ import annotations

from ..api.handler import RoundHandler
from ..api.parameters import RendezvousParameters
from ..network.addresses import DEFAULT_PORT, Endpoint
from ..node.rendezvous import RoundRendezvous
from ..protocol.timing import STORE_PATIENCE_S, timing_of
from ..stores.server.connector import StoreConnector
from ..stores.server.endpoints import Succession
from ..stores.server.guard import guard_of

# With several endpoints the nodes go on at the next one, so there is less to wait for.
_PATIENCE_BEFORE_A_MOVE_S = 7.0


def create_c10d(params: RendezvousParameters) -> RoundHandler:
    """Return the rendezvous over a store server.

    Args:
        params: The endpoint is ``host[:port]``, by default localhost and port 29400, or several
            separated by commas, to which the nodes move in turn. Settings: those of ``timing_of``
            and ``guard_of``; ``is_host`` says whether this node hosts the store at the only one.

    Raises:
        ValueError: The endpoint is none, or a setting is not what it should be.
    """
    endpoints = params.endpoints(Endpoint("localhost", DEFAULT_PORT))
    is_host = params.get_as_bool("is_host")
    if len(set(endpoints)) < len(endpoints):
        raise ValueError(f"endpoint {params.endpoint!r}: one of them is named twice")
    if len(endpoints) > 1 and is_host is not None:
        raise ValueError("--rdzv-conf is_host=...: with several endpoints, the nodes find it out")
    may_be_any = len(endpoints) == 1 and params.max_nodes == 1 and is_host is not False
    if any(endpoint.port == 0 for endpoint in endpoints) and not may_be_any:
        raise ValueError(f"endpoint {params.endpoint!r}: port 0 is known to no other node")
    is_movable = len(endpoints) > 1
    timing = timing_of(params, _PATIENCE_BEFORE_A_MOVE_S if is_movable else STORE_PATIENCE_S)
    guard = guard_of(params)
    places = [
        StoreConnector(
            endpoint,
            is_host,
            params.local_addr,
            timing.join_timeout_s,
            patience_s=timing.store_patience_s,
            grace_s=timing.reconnect_patience_s,
            run_id=params.run_id,
            is_alone=may_be_any,
            guard=guard,
            nodes=params.max_nodes,
        )
        for endpoint in endpoints
    ]
    connect = places[0] if len(places) == 1 else Succession(places, timing.join_timeout_s)
    kind = _DeclaredHost if is_host else RoundRendezvous
    return kind(params, connect, timing)


class _DeclaredHost(RoundRendezvous):
    """The rounds of a node that hosts the store because the user says so."""

    def describe_wait(self) -> str:
        wait = super().describe_wait()
        hint = "this node hosts the rendezvous by --rdzv-conf is_host=true, which only one node may"
        return wait and f"{wait}; {hint}"
