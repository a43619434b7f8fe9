"""A store server in this process, and this node's own connection to it."""

from __future__ import annotations

import socket
from collections.abc import Callable

from .client import StoreClient
from .dial import shake_hands
from .guests import Guests, Limits
from .hello import Hello
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
) -> tuple[StoreServer, StoreClient]:
    """Start a server; return it, and this node's client of it.

    Args:
        guests: Decides which nodes are let in.
        me: What this node says of itself.
        name: What people call the place where the server listens, for its log lines.
        endpoint: What this node's errors call it.
        patience_s: How long the clients bear it that the server is out of reach.
        close: Ends the server, once the client was closed.

    Raises:
        OSError: The system grants no thread, or no descriptor.
    """
    server = StoreServer(guests, name, Limits(session_s=patience_s + _MARGIN_S))
    server.start()

    try:
        mine, its = socket.socketpair()
        server.adopt(its)
        shake_hands(mine, me, _HANDSHAKE_S)
        return server, StoreClient(mine, endpoint, patience_s, on_close=lambda: close(server))
    except OSError:  # no descriptor or no thread is left
        close(server)
        raise
