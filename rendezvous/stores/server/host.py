"""A store server in this process, and this node's own connection to it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from ...errors import RendezvousConnectionError
from ...logs import Log
from .client import StoreClient
from .dial import shake_hands
from .entrance import Entrance
from .guard import Guard
from .guests import ClientLimits, Guests
from .hello import Hello, Refusal
from .line import Line
from .link import Link
from .server import StoreServer

log = Log(__name__)

_HANDSHAKE_S = 5.0
_FOR_THE_AGENT = 256
"""What an agent may have open beside its connections."""
_FEWEST_STRANGERS = 64
# A session outlasts its client's patience by this.
_MARGIN_S = 60.0


def host_store(
    guests: Guests,
    me: Hello,
    name: str,
    endpoint: str,
    patience_s: float,
    close: Callable[[StoreServer], None] = StoreServer.close,
    guard: Guard | None = None,
    nodes: int = 1,
) -> tuple[StoreServer, StoreClient]:
    """Start a server; return it, and this node's client of it.

    Args:
        name: What people call the place where the server listens, for its log lines.
        endpoint: What this node's errors call it.
        patience_s: How long the clients bear it that the server is out of reach.
        close: Ends the server, once the client was closed.

    Raises:
        OSError: The system grants no thread, or no descriptor.
    """
    limits = ClientLimits(session_s=patience_s + _MARGIN_S, strangers=make_room_for(nodes))
    server = StoreServer(guests, name, limits, entrance=Entrance(guard, me.run_id))
    server.start()
    try:
        mine, its = socket.socketpair()
        server.adopt(its)
        line = Line(_welcomed(mine, me), endpoint, patience_s)
        return server, StoreClient(line, on_close=lambda: close(server))
    except (OSError, RendezvousConnectionError):  # no descriptor or no thread is left
        close(server)
        raise


def _welcomed(connection: socket.socket, me: Hello) -> Link:
    link = shake_hands(connection, me, _HANDSHAKE_S)
    if isinstance(link, Refusal):
        raise RendezvousConnectionError(link.reason)
    return link


def make_room_for(connections: int) -> int:
    """Raise this process's limit of open files as far as that takes, and may be done.

    Say so where it can't be done. Systems set the limit to 1,024, and allow more to those that ask.

    Returns:
        How many strangers may be connected, so that the agent and the nodes keep what they need.
    """
    strangers = ClientLimits().strangers
    wanted = len(os.listdir("/proc/self/fd")) + _FOR_THE_AGENT + _FEWEST_STRANGERS + connections
    limit = os.sysconf("SC_OPEN_MAX")
    if limit < wanted:
        limit = _raised_limit(wanted + strangers)
    if limit < wanted:
        log.warning(
            "this node hosts the rendezvous of up to %d nodes, and may have only %d open files: "
            "raise the hard limit of open files (ulimit -Hn) on this host to %d",
            connections,
            limit,
            wanted,
        )
    return max(_FEWEST_STRANGERS, min(strangers, _FEWEST_STRANGERS + limit - wanted))


def _raised_limit(wanted: int) -> int:
    import resource  # few jobs have so many nodes

    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
    except (OSError, ValueError):  # another limit of the system's
        return soft
    return limit
