"""The rendezvous of nodes that were told their ranks: they meet at the master's address and port.

That is all they know of each other. So the agent of node rank 0 listens there while a node is
missing, hosts the store, and serves it over the connections that the others make, which last as
long as the job does. Once all nodes are connected, nobody else is to come, and the port is left to
the workers' store, which has to be at the same place. A node that comes back while an attempt runs
finds that one there, and tries again until the attempt has ended for the lack of it.
"""

from __future__ import annotations

import _socket
import socket
import threading
import time
from collections.abc import Callable

from ..api.handler import RendezvousInfo, RoundHandler
from ..api.parameters import RendezvousParameters
from ..errors import (
    RendezvousConnectionError,
    RendezvousError,
    RendezvousStateError,
    RendezvousTimeoutError,
)
from ..network.addresses import Endpoint
from ..node.rendezvous import RoundRendezvous
from ..protocol.records import Node, Origin
from ..protocol.timing import Timing, seconds_in_words, timing_of
from ..stores.server.client import StoreClient
from ..stores.server.dial import Target, Unreached, dial
from ..stores.server.guard import guard_of
from ..stores.server.hello import Hello, name_of_run
from ..stores.server.line import Line
from ..stores.server.link import Link
from ..stores.server.retry import Retry
from ..stores.store import Connection
from .static_admission import TAKEN
from .static_master import MasterNode

_CONNECT_S = 5.0
_HANDSHAKE_S = 5.0
_GLANCE_S = 0.5
_FOREIGN = (
    "another program answers there, or the workers of an attempt that still runs; every node must "
    "run elrun"
)


class StaticRendezvous(RoundRendezvous):
    """Rounds of a fixed number of nodes, each with the rank that it was told."""

    _rank_word = "node rank"

    def __init__(
        self,
        params: RendezvousParameters,
        endpoint: Endpoint,
        connect: Callable[[threading.Event], Connection],
        timing: Timing,
    ) -> None:
        super().__init__(params, connect, timing)
        self._endpoint = endpoint
        self._master = connect if isinstance(connect, MasterNode) else None
        self._last_wait = ""

    def next_rendezvous(self) -> RendezvousInfo:
        """Take part in the next round; see ``RoundRendezvous.next_rendezvous``.

        Raises:
            RendezvousStateError: Another node has this one's rank, or was told other numbers.
        """
        self._last_wait = ""
        master = self._master
        try:
            info = super().next_rendezvous()
        except RendezvousError as error:
            if master is not None and master.conflict:
                raise RendezvousStateError(master.conflict) from error
            if self._doubt and isinstance(error, RendezvousTimeoutError):
                raise RendezvousTimeoutError(f"{error}; {self._doubt}") from error
            if self._last_wait and isinstance(error, RendezvousConnectionError):
                raise RendezvousConnectionError(f"{error}; before, {self._last_wait}") from error
            raise
        if master is not None:
            master.shut()
        return info

    def describe_wait(self) -> str:
        wait = super().describe_wait()
        if wait and self._doubt:
            wait = f"{wait}; {self._doubt}"
        self._last_wait = wait
        return wait

    def workers_listener(self) -> _socket.socket | None:
        self._is_store_served = True
        return None if self._master is None else self._master.listener()

    def shutdown(self) -> bool:
        if self._master is not None:
            self._master.close()
        return super().shutdown()

    @property
    def _doubt(self) -> str:
        """Why other nodes may not find this one; about another master, its error tells enough."""
        return "" if self._master is None else self._master.doubt

    def _prepare(self) -> None:
        # Not before: node rank 0 is the first to enter the run, and decides what its secret is.
        if self._master is not None:
            self._master.open()

    def _record(self, address: str, port: int, origin: Origin | None, restarts: int) -> Node:
        record = super()._record(address, port, origin, restarts)
        host, port = self._endpoint
        return record._replace(address=host, port=port, is_fixed=True)


def create_static_nodes(
    params: RendezvousParameters, endpoint: Endpoint, rank: int
) -> RoundHandler:
    """Return the rendezvous of several nodes that were told their ranks.

    Args:
        params: The number of nodes is fixed. Settings: those of ``timing_of`` and ``guard_of``.
        endpoint: The master's address and port.

    Raises:
        ValueError: A setting is not what it should be.
    """
    timing = timing_of(params)
    host = socket.gethostname()
    me = Hello(name_of_run(params.run_id), host, node_rank=rank, nodes=params.max_nodes)
    target = Target(endpoint, guard_of(params))
    if rank == 0:
        return StaticRendezvous(params, endpoint, MasterNode(target, me, timing), timing)
    return StaticRendezvous(
        params, endpoint, lambda stop: _connect_to_master(target, me, timing, stop), timing
    )


def _connect_to_master(
    target: Target,
    me: Hello,
    timing: Timing,
    stop: threading.Event,
) -> Connection:
    """Return a connection to node rank 0, as soon as that listens.

    Args:
        target: The master's address and port, and what it has to prove.
        stop: Ends the attempts.

    Raises:
        RendezvousConnectionError: Node rank 0 was not reached in time.
        RendezvousStateError: It refuses this node, for good.
        RendezvousClosedError: ``stop`` was set.
    """
    endpoint, timeout_s = target.endpoint, timing.join_timeout_s
    state = f"node rank 0 is not reached at {endpoint}"
    retry = Retry(stop, timeout_s, str(endpoint), state)
    taken_since: float | None = None
    while True:
        answer = dial(target, me, _CONNECT_S, max(_GLANCE_S, min(_HANDSHAKE_S, timeout_s)))
        if isinstance(answer, Link):
            line = Line(answer, str(endpoint), timing.store_patience_s)
            return Connection(StoreClient(line), endpoint.host)
        reason = answer.reason
        if isinstance(answer, Unreached):
            taken_since = None
            reason = _FOREIGN if answer.is_foreign else reason
        else:
            now = time.monotonic()
            taken_since = now if taken_since is None else taken_since
            if answer.kind != TAKEN or now - taken_since >= 2 * timing.patience_s:
                raise RendezvousStateError(reason)
        if not retry.pause(reason):
            raise RendezvousConnectionError(
                f"node rank 0 was not reached at {endpoint} within {seconds_in_words(timeout_s)} s "
                f"(--rdzv-conf join_timeout=...): {reason}"
            )
