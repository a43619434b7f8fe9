"""Sockets that the small server listens at, beside those in folders (``local_sockets.py``)."""

from __future__ import annotations

import socket

BACKLOG = 128


def shown_host(host: str) -> str:
    """Return a host as it stands in a URL: an IPv6 address has brackets there."""
    return f"[{host}]" if ":" in host else host


def listen_at_port(host: str, port: int) -> socket.socket:
    """Listen at a TCP port; 0 takes any that is free.

    Raises:
        OSError: The address is not free, or not this host's.
    """
    is_v6 = ":" in host
    return socket.create_server(
        (host, port),
        family=socket.AF_INET6 if is_v6 else socket.AF_INET,
        backlog=BACKLOG,
        dualstack_ipv6=is_v6 and socket.has_dualstack_ipv6(),
    )
