"""Reaches torch's TCPStore: the node at the endpoint hosts it, the others connect.

The only module of an agent that imports torch, and it does so when a store is reached, not before.
Torch's own way to connect is to retry for as long as it is told, with a warning each time, and to
be stuck for good with a server that takes the connection and says nothing. So the endpoint is tried
by plain connections first, and then one thread connects while another watches the time.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
import threading
import time
from datetime import timedelta
from functools import cache
from importlib import import_module
from typing import Any

from ...errors import RendezvousClosedError, RendezvousConnectionError
from ...network.addresses import (
    Endpoint,
    host_of,
    is_local,
    published_address,
)
from ...network.listen import listen_at
from ...network.port_holder import holder_of
from ...protocol.announcements import Announcement, is_worth_telling
from ...protocol.timing import STORE_PATIENCE_S
from ...threads import call_in_time
from ..store import Connection
from .call_timeout import AnswerWatch
from .residence import Neighbour, move_in, stranger_in
from .tcp_store import TcpStore, takes_listening_socket

log = logging.getLogger(__name__)

_NEVER = timedelta(days=3650)
_SHORTEST_TORCH_S = 30.0
_FIRST_S = 10.0
_PROBE_S = 5.0
_GLANCE_S = 1.0
_NOTICE_S = 5.0
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_TORCH = "torch.distributed"
_LOG_LEVEL = "TORCH_CPP_LOG_LEVEL"
_CONNECT_THREAD = "elrun-store-connect"


class Reach:
    """Reaches the store of one run: hosts it where the endpoint is this node, else connects to it.

    Args:
        endpoint: Where; port 0 hosts it on any free port, for this node alone.
        is_host: Whether this node hosts it; None: if the endpoint is here and its port is free.
        local_addr: Address of this node that others should use; None: the one that leads there.
        timeout_s: For how long the endpoint is tried.
        notice_s: When the user is told first that it has been tried in vain so far.
        patience_s: How long the store may leave a question unanswered.
        run_id: The run whose store it is.
        is_alone: Whether no other node has to find the store.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        is_host: bool | None,
        local_addr: str | None,
        timeout_s: float,
        notice_s: float = _NOTICE_S,
        patience_s: float = STORE_PATIENCE_S,
        run_id: str = "",
        *,
        is_alone: bool = False,
    ) -> None:
        self._endpoint = endpoint
        self._is_host = is_host
        self._local_addr = local_addr
        self._timeout_s = timeout_s
        self._notice_s = notice_s
        self._patience_s = patience_s
        self._can_hand_over = True
        self._run_id = run_id
        self._is_alone = is_alone
        self._neighbour: Neighbour | None = None
        self._is_doubtful = False

    def __call__(self, stop: threading.Event) -> Connection:
        """Return the connection, as soon as there is something to connect to.

        Args:
            stop: Ends the attempts.

        Raises:
            RendezvousConnectionError: The endpoint can't be hosted, or not reached in time.
            RendezvousClosedError: ``stop`` was set.
        """
        try:
            return self._reach(stop)
        finally:
            if self._neighbour is not None:
                self._neighbour.leave()

    def _reach(self, stop: threading.Event) -> Connection:
        began_at = time.monotonic()
        deadline = began_at + self._timeout_s
        pause_s, told = _FIRST_PAUSE_S, None
        while True:
            found = self._look(deadline)
            if isinstance(found, Connection):
                return found
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise RendezvousConnectionError(self._unreachable(found))
            waited_s = time.monotonic() - began_at
            first_s = self._notice_s if self._neighbour is None else 0.0
            if is_worth_telling(found, waited_s, told, first_s=first_s):
                told = Announcement(found, waited_s)
                log.warning(
                    "the rendezvous at %s is not there yet: %s; it is tried for %g s "
                    "(--rdzv-conf join_timeout=...)",
                    self._endpoint,
                    found,
                    self._timeout_s,
                )
            if stop.wait(min(pause_s, left_s)):
                raise RendezvousClosedError(f"gave up reaching {self._endpoint}")
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _look(self, deadline: float) -> Connection | str:
        """Return a connection if there can be one by now, or why not."""
        if self._neighbour is not None:
            if self._neighbour.is_there:
                return self._neighbour.words
            self._neighbour.leave()
            self._neighbour = None
        # Each time: its name may be known only by now, or its address be new to this node.
        listener = self._listen() if self._may_host() else None
        hosted = None if listener is None else self._host(listener)
        if hosted is not None:
            return hosted
        address, reason = self._probe(deadline)
        if address and "torch" not in sys.modules:
            _import_tcp_store()  # takes seconds, after which the host may have gone
            address, reason = self._probe(deadline)
        if not address:
            return reason
        try:
            found = self._join(
                address, deadline, self._patience_s if self._is_doubtful else _FIRST_S
            )
        except RendezvousConnectionError as error:
            # It may be a host that was about to go: the next one, if there is one, answers.
            if self._is_doubtful or time.monotonic() >= deadline:
                raise
            self._is_doubtful = True
            return str(error)
        if isinstance(found, Connection):
            return found
        self._is_doubtful = False
        self._neighbour = found
        if self._is_alone and self._may_host():
            return self._host(listen_at(self._endpoint._replace(port=0))) or found.words
        return found.words

    def _may_host(self) -> bool:
        if self._is_host is not None:
            return self._is_host
        return self._endpoint.port == 0 or self.is_here

    @property
    def is_here(self) -> bool:
        """Whether the endpoint is this node."""
        return is_local(self._endpoint.host)

    def host(self) -> Connection | None:
        """Host the store; return None if another program holds the port.

        Raises:
            RendezvousConnectionError: It can't be hosted for another reason.
        """
        listener = self._listen()
        return None if listener is None else self._host(listener)

    def join(self, timeout_s: float) -> Connection:
        """Return a connection to the store that another node hosts.

        Raises:
            RendezvousConnectionError: Nobody does, or not in time.
        """
        deadline = time.monotonic() + timeout_s
        address, reason = self._probe(min(deadline, time.monotonic() + _GLANCE_S))
        if not address:
            raise RendezvousConnectionError(f"{self._endpoint}: {reason}")
        found = self._join(address, deadline, self._patience_s)
        if isinstance(found, Connection):
            return found
        found.leave()
        raise RendezvousConnectionError(f"{self._endpoint}: {found.words}")

    def _listen(self) -> socket.socket | None:
        """Return a socket that listens at the endpoint, or None if another agent seems to."""
        self._can_hand_over = takes_listening_socket(_version_of_torch())
        try:
            return listen_at(self._endpoint)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and self._is_host is None:
                return None
            raise RendezvousConnectionError(
                f"the rendezvous can't be hosted at {self._endpoint}: {self._hindrance(error)} "
                "(--rdzv-endpoint)"
            ) from error

    def _host(self, listener: socket.socket) -> Connection | None:
        """Host the store at a socket; return None if another agent has taken its port meanwhile."""
        bound, port = host_of(listener.getsockname()), listener.getsockname()[1]
        can_hand_over = self._can_hand_over
        if not can_hand_over:  # torch listens at the port anew; nobody may connect before
            listener.close()
        tcp_store = _import_tcp_store()
        own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bound, bound)  # noqa: S104  a table of names
        try:
            server = call_in_time(
                lambda: tcp_store(
                    own,
                    port,
                    is_master=True,
                    wait_for_workers=False,
                    master_listen_fd=listener.fileno() if can_hand_over else None,
                    timeout=self._torch_timeout,
                ),
                self._patience_s,
                _CONNECT_THREAD,
            )
        except (RuntimeError, TimeoutError) as error:
            if not can_hand_over and self._is_taken():
                return None
            raise RendezvousConnectionError(
                f"the rendezvous can't be hosted at {self._endpoint}: {error}"
            ) from error
        listener.detach()  # the server closes it
        server.set_timeout(_NEVER)
        log.info("hosting the rendezvous at %s, port %d", self._endpoint.host, port)
        store = TcpStore(str(self._endpoint), lambda: self._client(tcp_store, own, port), server)
        move_in(store, self._run_id)
        return Connection(store, self._own_address(), is_host=True, open_aside=store.aside)

    def _is_taken(self) -> bool:
        listener = self._listen() if self._is_host is None else None
        if listener is not None:
            listener.close()
        return self._is_host is None and listener is None

    def _join(self, address: str, deadline: float, patience_s: float) -> Connection | Neighbour:
        tcp_store = _import_tcp_store()
        port = self._endpoint.port
        timeout_s = max(1.0, min(patience_s, deadline - time.monotonic()))
        try:
            client = call_in_time(
                lambda: self._client(tcp_store, address, port), timeout_s, _CONNECT_THREAD
            )
        except (RuntimeError, TimeoutError) as error:
            asks = "does another program use this port?"
            raise RendezvousConnectionError(
                f"{self._endpoint} answers, but not as the rendezvous of a c10d job; "
                f"{self._held() if self.is_here else asks} (--rdzv-endpoint)"
            ) from error
        first = [client]
        store = TcpStore(
            str(self._endpoint),
            lambda: first.pop() if first else self._client(tcp_store, address, port),
            watch=AnswerWatch((address, port), str(self._endpoint), self._patience_s),
        )
        try:
            stranger = stranger_in(store, self._run_id) if self._run_id else None
        except RendezvousConnectionError:
            store.close()  # its watch would look on for ever
            raise
        if stranger is not None:
            return Neighbour(store, stranger)
        return Connection(store, self._own_address(), open_aside=store.aside)

    def _client(self, tcp_store: Any, address: str, port: int) -> Any:
        client = tcp_store(
            address, port, is_master=False, wait_for_workers=False, timeout=self._torch_timeout
        )
        client.set_timeout(_NEVER)
        return client

    @property
    def _torch_timeout(self) -> timedelta:
        """Longer than any wait for torch: when its time is up, it says so on standard error."""
        return timedelta(seconds=2 * max(_SHORTEST_TORCH_S, self._patience_s))

    def _probe(self, deadline: float) -> tuple[str, str]:
        """Return the address that answers at the endpoint, or none and the reason."""
        timeout_s = max(0.1, min(_PROBE_S, deadline - time.monotonic()))
        try:
            with socket.create_connection(self._endpoint, timeout_s) as probe:
                return host_of(probe.getpeername()), ""
        except socket.gaierror as error:
            return "", f"the name {self._endpoint.host} can't be resolved ({error.strerror})"
        except UnicodeError:  # a name that is too long, or has an empty part
            return "", f"{self._endpoint.host} can't be a host name"
        except TimeoutError:
            return "", "it does not answer"
        except OSError as error:
            return "", _words(error)

    def _own_address(self) -> str:
        return published_address(self._endpoint, self._local_addr)

    def _hindrance(self, error: OSError) -> str:
        return self._held() if error.errno == errno.EADDRINUSE else _words(error)

    def _held(self) -> str:
        port = self._endpoint.port
        return f"port {port} of this host is held by {holder_of(port)}"

    def _unreachable(self, reason: str) -> str:
        said = (
            f"the rendezvous at {self._endpoint} could not be reached within "
            f"{self._timeout_s:g} s: {reason}"
        )
        if self._may_host():
            return f"{said}; {self._held()}"
        return f"{said}; is elrun running on {self._endpoint.host}, and is the port open?"


@cache
def _version_of_torch() -> str:
    """Return the version of the torch that will be imported, if possible without importing it."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  20 ms

    try:
        return version("torch")
    except PackageNotFoundError:  # torch as a folder in PYTHONPATH
        return str(import_module("torch").__version__)


def _import_tcp_store() -> Any:
    """Import torch, with the warnings of its C++ side silenced: what matters is raised, too."""
    if _LOG_LEVEL in os.environ or "torch" in sys.modules:
        return import_module(_TORCH).TCPStore
    # torch reads the variable while it is loaded; putenv() keeps it out of what workers inherit.
    os.putenv(_LOG_LEVEL, "FATAL")
    try:
        return import_module(_TORCH).TCPStore
    finally:
        os.unsetenv(_LOG_LEVEL)


def _words(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
