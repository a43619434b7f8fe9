"""A store server in this process, and this node's own connection to it."""

from __future__ import annotations

import socket
from collections.abc import Callable

from ...errors import RendezvousConnectionError
from ...network.descriptors import make_room_for
from .client import StoreClient
from .dial import shake_hands
from .entrance import Entrance
from .guard import Guard
from .guests import Guests, Limits
from .hello import Hello, Refusal
from .line import Line
from .link import Link
from .server import StoreServer

_HANDSHAKE_S = 5.0
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
    make_room_for(nodes)
    limits = Limits(session_s=patience_s + _MARGIN_S)
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
