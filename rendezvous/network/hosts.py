"""Where hosts are: what a name stands for, and which interface of this node leads there.

The system's calls want the zone of a link's address (``fe80::1%eth0``) as a number beside it:
``socket_address`` and ``host_of`` lead there and back.
"""

from __future__ import annotations

import errno
import socket

from ..light_typing import Any
from ..logs import Log
from .addresses import DEFAULT_PORT, Endpoint, is_literal, is_loopback

log = Log(__name__)

# Routed like any address of the internet, assigned to nobody (RFC 5737 and 3849), never sent to.
_ELSEWHERE = ("192.0.2.1", "2001:db8::1")
_LONGEST_LABEL = 64  # characters between two dots; one too many


def is_local(host: str) -> bool:
    """Return whether a host is this one, by its name or by the address of an interface."""
    if is_loopback(host) or host.lower() == socket.gethostname().lower():
        return True
    return any(_can_bind(family, address) for family, address in addresses_of(host))


def addresses_of(host: str) -> list[tuple[socket.AddressFamily, str]]:
    """Return a host's addresses in the resolver's order; none for a name that nobody knows."""
    try:
        found = socket.getaddrinfo(as_resolvers_take_it(host), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [(family, host_of(where)) for family, _, _, _, where in found]


def as_resolvers_take_it(host: str) -> bytes | str:
    """Return a host's name in bytes where it is plain: text loads a codec of half a megabyte.

    What that codec refuses stays text, and is refused.
    """
    is_plain = all(0 < len(part) < _LONGEST_LABEL for part in host.removesuffix(".").split("."))
    return host.encode() if is_plain and host.isascii() else host


def socket_address(address: str, port: int) -> tuple[Any, ...]:
    """Return an address as sockets take it.

    Args:
        address: No name.

    Raises:
        OSError: This host has no such zone.
    """
    bare, _, zone = address.partition("%")
    if not zone:
        return address, port
    return bare, port, 0, int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)


def host_of(where: tuple[Any, ...]) -> str:
    """Return the address from what a socket says: ``getpeername()`` and such."""
    host = str(where[0])
    zone = next(iter(where[3:]), 0)  # IPv6 has address, port, flow, zone
    return f"{host}%{socket.if_indextoname(zone)}" if zone and "%" not in host else host


def address_towards(host: str, port: int) -> str:
    """Return the address of this node's interface that reaches a host, without sending a byte.

    Args:
        port: Any port, which needn't be open.

    Returns:
        An address; ``127.0.0.1`` or ``::1`` where the host's name leads no further.

    Raises:
        OSError: No interface reaches it, or its name can't be resolved.
    """
    failure: OSError | None = None
    for family, address in addresses_of(host):
        # Port 0 is refused by connect(), and the port plays no part in the choice of a route.
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect(socket_address(address, port or 1))
                return host_of(probe.getsockname())
        except OSError as error:
            failure = error
    raise failure or OSError(errno.EHOSTUNREACH, f"the name {host} can't be resolved")


def default_address() -> str:
    """Return the address at which other nodes most likely reach this one.

    It is the one that the host's own name stands for; where that is a loopback address (as on
    Debian), the one of the interface that leads to the rest of the world; at last, 127.0.0.1.
    """
    for _, address in addresses_of(socket.gethostname()):
        if not is_loopback(address):
            return address
    for elsewhere in _ELSEWHERE:
        try:
            return address_towards(elsewhere, DEFAULT_PORT)
        except OSError:
            continue
    return "127.0.0.1"


def published_address(endpoint: Endpoint, local_addr: str | None) -> str:
    """Return the address at which the other nodes shall reach this one.

    Args:
        endpoint: What this node reached; the address is that of the interface that leads there.
        local_addr: What the user said, which goes before that.
    """
    if local_addr:
        if not is_local(local_addr):  # it may be one all the same, by way of a router
            known = "no address of this host" if addresses_of(local_addr) else "no known name"
            log.warning("--local-addr %s is %s: can other nodes reach it?", local_addr, known)
        return local_addr
    try:
        address = address_towards(*endpoint)
    except OSError:
        return default_address()
    # A name that leads this node back to itself leads the others here, too.
    leads_here = is_loopback(address) and not is_loopback(endpoint.host)
    return endpoint.host if leads_here else address


def address_now(endpoint: Endpoint, local_addr: str | None) -> str | None:
    """Return the address of the interface that leads to an endpoint now; look no name up.

    Args:
        endpoint: Its host is an address, perhaps one that was this node's own and no longer is.
        local_addr: What the user said, which goes before that.

    Returns:
        None: no interface leads there, the endpoint is on this host, it has a name, or
        ``local_addr`` was given.
    """
    if local_addr or not is_literal(endpoint.host):  # a name server may take half a minute
        return None
    try:
        address = address_towards(*endpoint)
    except OSError:
        return None
    return None if is_loopback(address) else address


def keep_alive(connection: socket.socket) -> None:
    """Have the kernel find out within a minute that the other host is gone, and send at once.

    A router that forgets silent connections keeps one that says something each half minute.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _can_bind(family: socket.AddressFamily, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(socket_address(address, 0))
    except OSError:
        return False
    return True
