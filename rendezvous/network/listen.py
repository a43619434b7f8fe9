"""Listens at an endpoint that is this node: on which of its interfaces, and how.

On the one interface that an address names. A name may stand for other addresses on other nodes than
it does here, so it means all interfaces, unless it is localhost.
"""

from __future__ import annotations

import errno
import socket

from .addresses import Endpoint, is_literal, is_loopback
from .hosts import addresses_of, socket_address

_BACKLOG = 4096


def listen_at(endpoint: Endpoint) -> socket.socket:
    """Return a socket that listens there.

    Args:
        endpoint: An endpoint of this node; port 0 stands for any that is free.

    Raises:
        OSError: The port is held, or may not be used, or the address isn't one of this node.
    """
    family, address = _interface_of(endpoint.host)
    try:
        return _listener(family, address, endpoint.port)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL or address == _anywhere(family):
            raise
        # An address that leads here by way of a router, so it belongs to no interface.
        return _listener(family, _anywhere(family), endpoint.port)


def _interface_of(host: str) -> tuple[socket.AddressFamily, str]:
    addresses = addresses_of(host)
    families = [family for family, _ in addresses]
    family = socket.AF_INET if socket.AF_INET in families or not families else socket.AF_INET6
    if is_literal(host) or is_loopback(host):
        return next((each for each in addresses if each[0] == family), (family, host))
    if socket.AF_INET6 in families and socket.has_dualstack_ipv6():
        family = socket.AF_INET6
    return family, _anywhere(family)


def _anywhere(family: socket.AddressFamily) -> str:
    return "::" if family == socket.AF_INET6 else "0.0.0.0"


def _listener(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    # Python sets SO_REUSEADDR here: two can't listen, but the last job's connections don't matter.
    return socket.create_server(
        socket_address(address, port),
        family=family,
        backlog=_BACKLOG,
        dualstack_ipv6=address == "::" and socket.has_dualstack_ipv6(),
    )
