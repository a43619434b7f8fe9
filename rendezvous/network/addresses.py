"""Endpoints as users write them: read, checked and written; nothing is looked up.

An address is a text, also that of a link, with the zone that it is nothing without:
``fe80::1%eth0``.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_pton  # `socket` takes 2 ms of a start

from ..named_tuple import NamedTuple

DEFAULT_PORT = 29400
MAX_PORT = 65535
_MOST_DIGITS = 9
NO_PORT = -1
"""Where an endpoint was given without a port, and each backend has a default of its own."""

_LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


class EndpointError(ValueError):
    """A text names no endpoint."""

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
    is_number = port.isascii() and port.isdigit() and len(port) <= _MOST_DIGITS
    if not is_number or int(port) > MAX_PORT:
        raise EndpointError(text, f"{port!r} is no port; give 0 to {MAX_PORT}")
    return Endpoint(host, int(port))


def _parts_of(text: str) -> tuple[str, str, str]:
    """Return host, colon and port; the last two are empty where there is no port."""
    bare = text.strip()
    if bare.startswith("["):
        host, bracket, rest = bare[1:].partition("]")
        if not _is_address(AF_INET6, host) or not bracket or (rest and rest[0] != ":"):
            raise EndpointError(text, "write an IPv6 address as [::1]:29400")
        return host, rest[:1], rest[1:]
    if _is_address(AF_INET6, bare):
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
    if _is_address(AF_INET, host):
        return host.startswith("127.")
    return host.lower() in _LOOPBACK_NAMES or host == "::1"


def is_literal(host: str) -> bool:
    """Return whether a host is given as an address, not as a name."""
    return _is_address(AF_INET, host) or _is_address(AF_INET6, host)


def _is_address(family: int, text: str) -> bool:
    bare, percent, zone = text.partition("%")
    if percent and (family != AF_INET6 or not zone or "%" in zone):
        return False
    try:
        inet_pton(family, bare)
    except (OSError, ValueError):
        return False
    return True
