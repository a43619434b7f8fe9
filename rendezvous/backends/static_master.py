"""Node rank 0 of a static job: hosts the store, and listens at the port while a node is missing."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable

from ..errors import (
    PortTakenError,
    RendezvousConnectionError,
    RendezvousError,
    RendezvousStateError,
)
from ..network import ports
from ..protocol.timing import Timing
from ..stores.server.client import StoreClient
from ..stores.server.dial import Target, dial
from ..stores.server.hello import Hello, Refusal
from ..stores.server.host import host_store
from ..stores.server.link import Link
from ..stores.server.server import StoreServer
from ..stores.store import Connection
from ..threads import start_daemon
from .static_admission import StaticNodes

_HANDSHAKE_S = 5.0
_GLANCE_S = 0.5
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0


def _listen_at(port: int) -> socket.socket:
    return socket.socket(fileno=ports.listen_at(port).detach())


class MasterNode:
    """Node rank 0: hosts the store, and listens for the other nodes.

    Args:
        target: The master's address and port, as all nodes were told, and what protects them.

    Attributes:
        conflict: Why this node can't be node rank 0; empty, unless it is found out.
        doubt: Why other nodes may not find this one; empty, unless it is found out.
    """

    def __init__(
        self,
        target: Target,
        me: Hello,
        timing: Timing,
        listen: Callable[[int], socket.socket] = _listen_at,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target = target
        self._endpoint = target.endpoint
        self._me = me
        self._timing = timing
        self._listen_at = listen
        self._clock = clock
        self._server: StoreServer | None = None
        self._store: StoreClient | None = None
        self._listener: socket.socket | None = None
        self._keeps_listener = False
        self._is_alone = threading.Event()
        self._looks = False
        self.conflict = ""
        self.doubt = ""

    def __call__(self, stop: threading.Event) -> Connection:
        """Begin to host the store.

        Raises:
            RendezvousConnectionError: The port can't be had.
        """
        del stop
        self._listen()
        self._server, self._store = host_store(
            StaticNodes(self._me, self._timing.patience_s),
            self._me,
            f"port {self._endpoint.port}",
            str(self._endpoint),
            self._timing.store_patience_s,
            guard=self._target.guard,
            nodes=self._me.nodes or 1,
        )
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
        if not self._looks:
            self._looks = True
            start_daemon(self._look_for_another, "elrun-master")

    def shut(self) -> None:
        """Leave the port to the workers' store."""
        if self._server is None:
            return
        self._server.stop_listening()
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
            if refusal is not None:
                from ..network.port_holder import pid_of_holder  # few jobs

                pid = pid_of_holder(self._endpoint.port)
                other = f" (the other one is pid {pid})" if pid else ""
                raise RendezvousStateError(f"{refusal.reason}{other}") from error
            problem = f"the nodes can't meet at {self._endpoint}: {error}"
            if isinstance(error, PortTakenError):
                raise PortTakenError(problem) from error
            raise RendezvousConnectionError(f"{problem} (--master-port)") from error
        return self._listener

    def _look_for_another(self) -> None:
        """Find out whether the master's address leads to another node that has rank 0, too.

        One that is about to end, and whose place this node takes, may still answer for a moment.
        """
        pause_s, refused_since = _FIRST_PAUSE_S, None
        while not self._is_alone.is_set():
            refusal = self._ask_for_another(self._endpoint.host, _HANDSHAKE_S)
            if self._is_alone.is_set():  # all nodes have come meanwhile
                return
            refused_since = None if refusal is None else refused_since or self._clock()
            lasts_s = 0.0 if refused_since is None else self._clock() - refused_since
            if refusal is not None and lasts_s >= 2 * self._timing.patience_s:
                self.conflict = refusal.reason
                if self._store is not None:
                    self._store.close()
                return
            self._is_alone.wait(pause_s if refusal is None else self._timing.patience_s / 2)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _ask_for_another(self, host: str, timeout_s: float) -> Refusal | None:
        """Return how the node at an address refuses this one; None if it is this one, or none."""
        mark = self._server.mark if self._server is not None else os.urandom(8).hex()
        target = self._target._replace(
            endpoint=self._endpoint._replace(host=host), server_name=self._endpoint.host
        )
        self.doubt = _doubt_about(host)
        answer = dial(target, self._me._replace(server=mark), timeout_s, timeout_s)
        if isinstance(answer, Refusal):
            return answer
        if isinstance(answer, Link):
            answer.close()
            self._is_alone.set()
        return None


def _doubt_about(host: str) -> str:
    """Return what is wrong with the master's name, as far as this host can tell."""
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no host name"
        return f"{host!r} can't be resolved on this node: {reason} (--master-addr)"
    return ""
