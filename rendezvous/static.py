"""The rendezvous of nodes that were told their ranks: they meet at the master's address and port.

That is all they know of each other. So the agent of node rank 0 listens there while a node is
missing, hosts the store, and serves it over the connections that the others make, which last as
long as the job does. Once all nodes are connected, nobody else is to come, and the port is left to
the workers' store, which has to be at the same place. A node that comes back while an attempt runs
finds that one there, and tries again until the attempt has ended for the lack of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from .addresses import Endpoint
from .admission import TAKEN, StaticNodes
from .handler import (
    Placement,
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousError,
    RendezvousInfo,
    RendezvousStateError,
    RoundHandler,
)
from .parameters import RendezvousParameters
from .ports import listen_at
from .records import Node, Origin
from .rounds import RoundRendezvous
from .store import Connection
from .store_client import StoreClient, shake_hands
from .store_server import StoreServer
from .store_wire import Hello, Refusal, WireError
from .timing import Timing, timing_of

log = logging.getLogger(__name__)

_CONNECT_S = 5.0
_HANDSHAKE_S = 5.0
_GLANCE_S = 0.5
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_NOTICES_S = (5.0, 30.0, 60.0, 120.0, 300.0)


class MasterNode:
    """Node rank 0: hosts the store, and listens for the other nodes.

    Args:
        endpoint: The master's address and port, as all nodes were told.
        me: This node.
        timing: How long a node may be silent.
        listen: Listens at a port of this host.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        me: Hello,
        timing: Timing,
        listen: Callable[[int], socket.socket] = listen_at,
    ) -> None:
        self._endpoint = endpoint
        self._me = me
        self._timing = timing
        self._listen_at = listen
        self._server: StoreServer | None = None
        self._store: StoreClient | None = None
        self._listener: socket.socket | None = None
        self._keeps_listener = False
        self._is_alone: threading.Event | None = None
        self.conflict = ""

    def __call__(self, stop: threading.Event) -> Connection:
        """Begin to host the store.

        Args:
            stop: Is not waited for, as this takes no time.

        Raises:
            RendezvousConnectionError: The port can't be had.
        """
        del stop
        self._listen()
        server = self._server = StoreServer(
            StaticNodes(self._me, self._timing.patience_s), f"port {self._endpoint.port}"
        )
        server.start()
        mine, its = socket.socketpair()
        server.adopt(its)
        shake_hands(mine, self._me, _HANDSHAKE_S)
        self._store = StoreClient(mine, str(self._endpoint), self._timing.store_patience_s, server)
        return Connection(self._store, self._endpoint.host, is_host=True)

    def open(self) -> None:
        """Let nodes in that are missing, from the first time that the store was asked for.

        Raises:
            RendezvousConnectionError: Another program has taken the port.
        """
        if self._server is None:
            return
        listener = self._listener or self._listen()
        self._server.listen(listener)
        if self._is_alone is None:
            self._is_alone = threading.Event()
            threading.Thread(
                target=self._look_for_another, name="elrun-master", daemon=True
            ).start()

    def shut(self) -> None:
        """Leave the port to the workers' store."""
        if self._server is None:
            return
        self._server.stop_listening()
        if self._is_alone is not None:
            self._is_alone.set()
        if not self._keeps_listener:
            self._close()

    def listener(self) -> socket.socket:
        """Return a socket that listens at the port, for a workers' store; the caller's to close.

        Raises:
            RendezvousError: Another program has taken the port.
        """
        self._keeps_listener = True
        return (self._listener or self._listen()).dup()

    def close(self) -> None:
        """Let go of the port; the store is closed by its client."""
        if self._is_alone is not None:
            self._is_alone.set()
        if self._server is not None:
            self._server.stop_listening()
        self._close()

    def _close(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def _listen(self) -> socket.socket:
        try:
            self._listener = self._listen_at(self._endpoint.port)
        except RendezvousError as error:
            refusal = self._ask_for_another("localhost", _GLANCE_S)
            reason = f"; {refusal.reason}" if refusal is not None else ""
            raise RendezvousConnectionError(
                f"the nodes can't meet at {self._endpoint}: {error}{reason} (--master-port)"
            ) from error
        return self._listener

    def _look_for_another(self) -> None:
        """Find out whether the master's address leads to another node that has rank 0, too."""
        pause_s = _FIRST_PAUSE_S
        is_alone = self._is_alone
        while is_alone is not None and not is_alone.is_set():
            refusal = self._ask_for_another(self._endpoint.host, _HANDSHAKE_S)
            if refusal is not None:
                self.conflict = refusal.reason
                if self._store is not None and not is_alone.is_set():
                    self._store.close()
                return
            is_alone.wait(pause_s)
            pause_s = min(2 * pause_s, 5 * _LONGEST_PAUSE_S)

    def _ask_for_another(self, host: str, timeout_s: float) -> Refusal | None:
        """Return how the node at an address refuses this one; None if it is this one, or none."""
        mark = self._server.mark if self._server is not None else os.urandom(8).hex()
        with contextlib.suppress(OSError, UnicodeError, WireError):
            address = (host, self._endpoint.port)
            with socket.create_connection(address, timeout_s) as connection:
                answer = shake_hands(connection, replace(self._me, server=mark), timeout_s)
                if isinstance(answer, Refusal):
                    return answer
                if self._is_alone is not None:
                    self._is_alone.set()
        return None


class OtherNode:
    """Another node than that of rank 0: connects to it, as soon as it is there.

    Args:
        endpoint: The master's address and port.
        me: This node.
        timing: For how long to try.
        clock: A monotonic clock.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        me: Hello,
        timing: Timing,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = endpoint
        self._me = me
        self._timing = timing
        self._clock = clock

    def __call__(self, stop: threading.Event) -> Connection:
        """Return a connection, as soon as there is something to connect to.

        Args:
            stop: Ends the attempts.

        Raises:
            RendezvousConnectionError: Node rank 0 was not reached in time.
            RendezvousStateError: It refuses this node.
            RendezvousClosedError: ``stop`` was set.
        """
        began, taken_since = self._clock(), 0.0
        pause_s, notices = _FIRST_PAUSE_S, list(_NOTICES_S)
        while True:
            answer = self._try()
            waited_s = self._clock() - began
            if isinstance(answer, StoreClient):
                return Connection(answer, self._endpoint.host)
            if isinstance(answer, Refusal):
                taken_since = taken_since or self._clock()
                is_lasting = self._clock() - taken_since >= 2 * self._timing.patience_s
                if answer.kind != TAKEN or is_lasting:
                    raise RendezvousStateError(answer.reason)
            left_s = self._timing.join_timeout_s - waited_s
            reason = answer.reason if isinstance(answer, Refusal) else answer
            if left_s <= 0:
                raise RendezvousConnectionError(
                    f"node rank 0 was not reached at {self._endpoint} within "
                    f"{self._timing.join_timeout_s:g} s (--rdzv-conf join_timeout=...): {reason}"
                )
            if notices and waited_s >= notices[0]:
                notices.pop(0)
                log.warning(
                    "node rank 0 is not reached at %s yet: %s; it is tried for %g s "
                    "(--rdzv-conf join_timeout=...)",
                    self._endpoint,
                    reason,
                    self._timing.join_timeout_s,
                )
            if stop.wait(min(pause_s, left_s)):
                raise RendezvousClosedError(f"gave up reaching {self._endpoint}")
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def open(self) -> None:
        """Do nothing: only node rank 0 listens."""

    def shut(self) -> None:
        """Do nothing: only node rank 0 listens."""

    def close(self) -> None:
        """Do nothing: only node rank 0 listens."""

    def _try(self) -> StoreClient | Refusal | str:
        """Return a connection, or why there is none."""
        host, port = self._endpoint
        try:
            connection = socket.create_connection((host, port), _CONNECT_S)
        except socket.gaierror as error:
            return f"the name {host} can't be resolved ({error.strerror})"
        except UnicodeError:  # a name that is too long, or has an empty part
            return f"{host} can't be a host name"
        except TimeoutError:
            return "it does not answer"
        except OSError as error:
            return error.strerror or str(error)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answer = shake_hands(connection, self._me, _HANDSHAKE_S)
        except (OSError, WireError):
            connection.close()
            return (
                "another program answers there, or the workers of an attempt that still runs; "
                "every node must run elrun"
            )
        if isinstance(answer, Refusal):
            connection.close()
            return answer
        return StoreClient(connection, str(self._endpoint), self._timing.store_patience_s)


class StaticRendezvous(RoundRendezvous):
    """Rounds of a fixed number of nodes, each with the rank that it was told.

    Args:
        params: The settings, among them ``rank``.
        endpoint: Where the nodes and the workers meet.
        node: How this node gets there.
        timing: How long to wait for what.
    """

    def __init__(
        self,
        params: RendezvousParameters,
        endpoint: Endpoint,
        node: MasterNode | OtherNode,
        timing: Timing,
    ) -> None:
        super().__init__(params, node, timing)
        self._endpoint = endpoint
        self._node = node

    def next_rendezvous(self) -> RendezvousInfo:
        """Take part in the next round; see ``RoundRendezvous.next_rendezvous``.

        Raises:
            RendezvousStateError: Another node has this one's rank, or was told other numbers.
        """
        try:
            info = super().next_rendezvous()
        except RendezvousError as error:
            if isinstance(self._node, MasterNode) and self._node.conflict:
                raise RendezvousStateError(self._node.conflict) from error
            raise
        self._node.shut()
        return info

    def workers_listener(self) -> socket.socket | None:
        """Listen at the master's port, on the node of rank 0."""
        self._is_store_served = True
        return self._node.listener() if isinstance(self._node, MasterNode) else None

    def shutdown(self) -> bool:
        """Leave the run; see ``RoundRendezvous.shutdown``."""
        self._node.close()
        return super().shutdown()

    def _enter(self, connection: Connection, before: Placement | None) -> Placement:
        # Not before: node rank 0 is the first to enter the run, and decides what its secret is.
        self._node.open()
        return super()._enter(connection, before)

    def _record(self, connection: Connection, port: int, origin: Origin | None = None) -> Node:
        record = super()._record(connection, port, origin)
        host, port = self._endpoint
        return replace(record, address=host, port=port, is_fixed=True)


def create_static_nodes(
    params: RendezvousParameters, endpoint: Endpoint, rank: int
) -> RoundHandler:
    """Return the rendezvous of several nodes that were told their ranks.

    Args:
        params: The number of nodes is fixed. Settings: those of ``timing_of`` and ``secret_of``.
        endpoint: The master's address and port.
        rank: This node's.

    Raises:
        ValueError: A setting is not what it should be.
    """
    timing = timing_of(params)
    me = Hello(params.run_id, socket.gethostname(), rank, params.max_nodes)
    node = MasterNode(endpoint, me, timing) if rank == 0 else OtherNode(endpoint, me, timing)
    return StaticRendezvous(params, endpoint, node, timing)
