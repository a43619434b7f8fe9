"""Reaches the store of a run: the node at the endpoint hosts it, the others connect."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Callable

from ...errors import RendezvousConnectionError, RendezvousStateError
from ...logs import Log
from ...network.addresses import Endpoint
from ...network.hosts import address_now, is_local, published_address
from ...network.listen import listen_at
from ...network.port_holder import holder_of
from ...protocol.timing import RECONNECT_PATIENCE_S, STORE_PATIENCE_S, seconds_in_words
from ..store import Connection
from .client import StoreClient
from .dial import Target, Unreached, dial
from .guard import Guard
from .guests import NodesOfRun
from .hello import OTHER_RUN, Hello, Refusal, name_of_run
from .line import Line
from .link import Link
from .retry import NOTICE_S, Retry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .server import StoreServer

log = Log(__name__)

_FIRST_S = 10.0
_CONNECT_S = 5.0
_GLANCE_S = 1.0
_SHORTEST_HANDSHAKE_S = 1.0


class StoreConnector:
    """Reaches the store of one run: hosts it where the endpoint is this node, else connects to it.

    Args:
        endpoint: Where; port 0 hosts it on any free port, for this node alone.
        is_host: Whether this node hosts it; None: if the endpoint is here and its port is free.
        local_addr: Address of this node that others should use; None: the one that leads there.
        notice_s: Seconds until the first log line that says why there is no connection yet.
        grace_s: How long this node may take to come back, if its connection breaks, before it
            counts as lost.
        is_alone: Whether no other node has to find the store.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        is_host: bool | None,
        local_addr: str | None,
        timeout_s: float,
        notice_s: float = NOTICE_S,
        patience_s: float = STORE_PATIENCE_S,
        grace_s: float = RECONNECT_PATIENCE_S,
        run_id: str = "",
        *,
        is_alone: bool = False,
        guard: Guard | None = None,
        nodes: int = 1,
    ) -> None:
        self._endpoint = endpoint
        self._is_host = is_host
        self._local_addr = local_addr
        self._timeout_s = timeout_s
        self._notice_s = notice_s
        self._patience_s = patience_s
        self._grace_s = grace_s
        self._me = Hello(name_of_run(run_id), socket.gethostname())
        self._is_alone = is_alone
        self._guard = guard or Guard()
        self._nodes = nodes
        self._foreign_since: float | None = None

    def __call__(self, stop: threading.Event) -> Connection:
        """Return the connection, as soon as there is something to connect to.

        Raises:
            RendezvousConnectionError: The endpoint can't be hosted, or not reached in time.
            RendezvousStateError: The store refuses this node for good.
        """
        state = f"the rendezvous at {self._endpoint} is not there"
        retry = Retry(stop, self._timeout_s, str(self._endpoint), state)
        while True:
            found = self._look(time.monotonic() + retry.left_s)
            if isinstance(found, Connection):
                return found
            is_neighbour = isinstance(found, Refusal)
            if not retry.pause(found.reason, 0.0 if is_neighbour else self._notice_s):
                raise RendezvousConnectionError(self._unreachable(found.reason))

    @property
    def is_here(self) -> bool:
        return is_local(self._endpoint.host)

    def host(self) -> Connection | None:
        """Host the store; return None if another program holds the port.

        Raises:
            RendezvousConnectionError: It can't be hosted for another reason.
        """
        listener = self._listen()
        return None if listener is None else self._serve(listener)

    def join(self, timeout_s: float) -> Connection:
        """Return a connection to the store that another node hosts.

        Raises:
            RendezvousConnectionError: None does, or not in time.
        """
        found = self._dial(min(_GLANCE_S, timeout_s), timeout_s)
        if isinstance(found, Connection):
            return found
        if isinstance(found, Unreached) and found.is_foreign:
            raise RendezvousConnectionError(self._foreign())
        raise RendezvousConnectionError(f"{self._endpoint}: {found.reason}")

    def _look(self, deadline: float) -> Connection | Refusal | Unreached:
        """Return a connection if there can be one by now, or why not."""
        # Each time: its name may be known only by now, or its address be new to this node.
        listener = self._listen() if self._may_host() else None
        if listener is not None:
            return self._serve(listener)
        began_at = time.monotonic()
        left_s = deadline - began_at
        patience_s = _FIRST_S if self._foreign_since is None else self._patience_s
        found = self._dial(
            max(0.1, min(_CONNECT_S, left_s)),
            max(_SHORTEST_HANDSHAKE_S, min(patience_s, left_s)),
        )
        if not isinstance(found, Unreached) or not found.is_foreign:
            self._foreign_since = None
        elif self._foreign_since is None and time.monotonic() < deadline:
            # It may be a host that is about to go, or a proxy before one that is about to come.
            self._foreign_since = began_at
        elif time.monotonic() >= min(deadline, (self._foreign_since or began_at) + _FIRST_S):
            raise RendezvousConnectionError(self._foreign())
        if isinstance(found, Refusal) and self._is_alone and self._may_host():
            return self._serve(listen_at(self._endpoint._replace(port=0)))
        return found

    def _may_host(self) -> bool:
        if self._is_host is not None:
            return self._is_host
        return self._endpoint.port == 0 or self.is_here

    def _listen(self) -> socket.socket | None:
        """Return a socket that listens at the endpoint, or None if another agent seems to."""
        # Most nodes host no store. What hosts it is loaded before anybody can connect, who would
        # take a host whose file system is slow for another program.
        from .host import host_store  # noqa: F401

        try:
            return listen_at(self._endpoint)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and self._is_host is None:
                return None
            hint = "; only one node may have --rdzv-conf is_host=true" if self._is_host else ""
            raise RendezvousConnectionError(
                f"the rendezvous can't be hosted at {self._endpoint}: {self._hindrance(error)} "
                f"(--rdzv-endpoint){hint}"
            ) from error

    def _serve(self, listener: socket.socket) -> Connection:
        from .host import host_store

        port = listener.getsockname()[1]
        place = str(self._endpoint)

        def close(server: StoreServer) -> None:
            server.stop_listening()
            listener.close()  # before the connections: a client that comes back is refused then
            server.close()

        guests = NodesOfRun(self._me)
        server, store = host_store(
            guests, self._me, place, place, self._patience_s, close, self._guard, self._nodes
        )
        server.listen(listener)
        log.info("hosting the rendezvous at %s, port %d", self._endpoint.host, port)
        own = self._own_address()
        return Connection(store, own, is_host=True, address_now=self._address_towards(own))

    def _dial(self, connect_s: float, handshake_s: float) -> Connection | Refusal | Unreached:
        """Return a connection to the store of this run, or why there is none."""
        me = self._me._replace(session=os.urandom(16).hex())
        began_at = time.monotonic()
        found = dial(Target(self._endpoint, self._guard), me, connect_s, handshake_s)
        dial_s = time.monotonic() - began_at
        if isinstance(found, Refusal) and found.kind != OTHER_RUN:
            raise RendezvousStateError(f"{self._endpoint}: {found.reason}")
        if not isinstance(found, Link):
            return found
        same = Endpoint(found.peer_address, self._endpoint.port)
        target = Target(same, self._guard, self._endpoint.host)
        again = me._replace(resumes=True)
        line = Line(
            found,
            str(self._endpoint),
            self._patience_s,
            redial=lambda within_s: dial(target, again, within_s, within_s),
            grace_s=self._grace_s,
            dial_s=dial_s,
        )
        return Connection(
            StoreClient(line),
            self._own_address(),
            address_now=self._address_towards(same.host),
        )

    def _own_address(self) -> str:
        return published_address(self._endpoint, self._local_addr)

    def _address_towards(self, address: str) -> Callable[[], str | None]:
        return lambda: address_now(Endpoint(address, self._endpoint.port), self._local_addr)

    def _hindrance(self, error: OSError) -> str:
        if error.errno == errno.EADDRINUSE:
            return self._held()
        return os.strerror(error.errno) if error.errno else str(error)

    def _held(self) -> str:
        port = self._endpoint.port
        return f"port {port} of this host is held by {holder_of(port)}"

    def _foreign(self) -> str:
        asks = "does torchrun or another program use this port?"
        return (
            f"{self._endpoint} answers, but not as the rendezvous of an elrun job; "
            f"{self._held() if self.is_here else asks} (--rdzv-endpoint)"
        )

    def _unreachable(self, reason: str) -> str:
        unreached = (
            f"the rendezvous at {self._endpoint} could not be reached within "
            f"{seconds_in_words(self._timeout_s)} s: {reason}"
        )
        if self._may_host():
            return f"{unreached}; {self._held()}"
        return f"{unreached}; is elrun running on {self._endpoint.host}, and is the port open?"
