"""Where a node can be reached.

An address is a text here, also that of a link, with the zone that it is nothing without:
``fe80::1%eth0``. The system's calls want the zone as a number beside it: ``socket_address`` and
``host_of`` lead there and back.
"""

from __future__ import annotations

import errno
import socket

from ..logs import Log
from ..named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

log = Log(__name__)

DEFAULT_PORT = 29400
MAX_PORT = 65535
NO_PORT = -1
"""Where an endpoint was given without a port, and each backend has a default of its own."""

_LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})
# Routed like any address of the internet, assigned to nobody (RFC 5737 and 3849), never sent to.
_ELSEWHERE = ("192.0.2.1", "2001:db8::1")


class EndpointError(ValueError):
    """A text names no endpoint.

    Args:
        text: The text.
        reason: Why it doesn't, and what to write instead.
    """

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"endpoint {text!r}: {reason}")
        self.reason = reason


class Endpoint(NamedTuple):
    """A host and a port, as ``host:port`` names them.

    Args:
        host: Name or address, without brackets.
        port: 0 to 65535, where 0 means any free port; ``NO_PORT`` where none was given.
    """

    host: str
    port: int

    def __str__(self) -> str:
        """Return the endpoint as users write it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.has_port else host

    @property
    def has_port(self) -> bool:
        """Whether a port was given."""
        return self.port != NO_PORT

    def or_port(self, port: int) -> Endpoint:
        """Return the endpoint with this port, if it has none."""
        return self if self.has_port else self._replace(port=port)


def parse_endpoints(text: str) -> tuple[Endpoint, ...]:
    """Return the endpoints that a text names, separated by commas; one at least.

    Raises:
        EndpointError: A part of the text names none.
    """
    parts = [part for part in text.split(",") if part.strip()]
    return tuple(map(parse_endpoint, parts or [""]))


def parse_endpoint(text: str) -> Endpoint:
    """Return the endpoint that a text names.

    Args:
        text: ``host``, ``host:port``, ``[address]``, ``[address]:port`` or an IPv6 address.

    Raises:
        EndpointError: The text names none.
    """
    host, colon, port = _parts_of(text)
    if not host:
        raise EndpointError(text, "it names no host; give HOST:PORT")
    if host.isdecimal():  # a port by itself would be looked up as an address, and found
        raise EndpointError(text, "the host is missing; give HOST:PORT, such as node1:29400")
    if not may_be_host(host) or any(each in host for each in ",[]@"):
        raise EndpointError(text, f"{host!r} can't be a host name")
    if not colon:
        return Endpoint(host, NO_PORT)
    if not (port.isascii() and port.isdigit()) or int(port) > MAX_PORT:
        raise EndpointError(text, f"{port!r} is no port; give 0 to {MAX_PORT}")
    return Endpoint(host, int(port))


def _parts_of(text: str) -> tuple[str, str, str]:
    """Return host, colon and port; the last two are empty where there is no port."""
    bare = text.strip()
    if bare.startswith("["):
        host, bracket, rest = bare[1:].partition("]")
        if not _is_address(socket.AF_INET6, host) or not bracket or (rest and rest[0] != ":"):
            raise EndpointError(text, "write an IPv6 address as [::1]:29400")
        return host, rest[:1], rest[1:]
    if _is_address(socket.AF_INET6, bare):
        return bare, "", ""
    if "/" in bare or " " in bare:
        raise EndpointError(text, "give a host name or an address, no URL and no spaces")
    host, colon, port = bare.partition(":")
    if ":" in port:
        raise EndpointError(
            text, "give HOST:PORT; an IPv6 address stands in brackets, as in [::1]:29400"
        )
    return host, colon, port


def may_be_host(text: str) -> bool:
    """Return whether a text can be a host's name or address at all; look nothing up."""
    return bool(text) and text.isprintable() and not any(map(str.isspace, text))


def is_loopback(host: str) -> bool:
    """Return whether a host's very name says that only itself reaches it; look nothing up."""
    if _is_address(socket.AF_INET, host):
        return host.startswith("127.")
    return host.lower() in _LOOPBACK_NAMES or host == "::1"


def is_literal(host: str) -> bool:
    """Return whether a host is given as an address, not as a name."""
    return _is_address(socket.AF_INET, host) or _is_address(socket.AF_INET6, host)


def is_local(host: str) -> bool:
    """Return whether a host is this one, by its name or by the address of an interface."""
    if is_loopback(host) or host.lower() == socket.gethostname().lower():
        return True
    return any(_can_bind(family, address) for family, address in addresses_of(host))


def addresses_of(host: str) -> list[tuple[socket.AddressFamily, str]]:
    """Return a host's addresses in the resolver's order; none for a name that nobody knows."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [(family, host_of(where)) for family, _, _, _, where in found]


def socket_address(address: str, port: int) -> tuple[Any, ...]:
    """Return an address as sockets take it.

    Args:
        address: No name.
        port: A port.

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
    zone = where[3] if len(where) > 3 else 0  # noqa: PLR2004  IPv6: address, port, flow, zone
    return f"{host}%{socket.if_indextoname(zone)}" if zone and "%" not in host else host


def address_towards(host: str, port: int) -> str:
    """Return the address of this node's interface that reaches a host, without sending a byte.

    Args:
        host: Name or address.
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
        except OSError as error:  # noqa: PERF203  two or three addresses
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
        except OSError:  # noqa: PERF203  two addresses
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


def _can_bind(family: socket.AddressFamily, address: str) -> bool:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(socket_address(address, 0))
    except OSError:
        return False
    return True


def _is_address(family: socket.AddressFamily, text: str) -> bool:
    bare, percent, zone = text.partition("%")
    if percent and (family != socket.AF_INET6 or not zone or "%" in zone):
        return False
    try:
        socket.inet_pton(family, bare)
    except (OSError, ValueError):
        return False
    return True
