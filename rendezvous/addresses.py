"""Addresses and ports: where a node can be reached, and a port for the workers of one round."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import random
import socket

DEFAULT_PORT = 29400
MAX_PORT = 65535

_EPHEMERAL_RANGE_FILE = "/proc/sys/net/ipv4/ip_local_port_range"
_FIRST_UNPRIVILEGED_PORT = 1024
_ATTEMPTS = 1000


def parse_endpoint(endpoint: str, default_port: int = DEFAULT_PORT) -> tuple[str, int]:
    """Return host and port of ``host``, ``host:port``, ``[IPv6]`` or ``[IPv6]:port``.

    Args:
        endpoint: The text; spaces around it don't count.
        default_port: The port where none is given.

    Raises:
        ValueError: It is none of these, or the port is no port.
    """
    text = endpoint.strip()
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"endpoint {endpoint!r}: write an IPv6 address as [::1]:29400")
        port_text = rest[1:] if rest else None
    elif text.count(":") > 1:
        host, port_text = text, None
    else:
        host, colon, after = text.partition(":")
        port_text = after if colon else None
    if not host:
        raise ValueError(f"endpoint {endpoint!r} names no host: give HOST:PORT")
    if port_text is None:
        return host, default_port
    if not port_text.isascii() or not port_text.isdigit() or int(port_text) > MAX_PORT:
        raise ValueError(f"endpoint {endpoint!r}: {port_text!r} is no port: give 0 to {MAX_PORT}")
    return host, int(port_text)


def format_endpoint(host: str, port: int) -> str:
    """Return ``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def default_address() -> str:
    """Return the name under which other nodes should find this one."""
    return socket.getfqdn()


def resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    """Return the addresses of a host, each with its family, in the system's order.

    Raises:
        OSError: The name can't be resolved.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((family, where[:2]) for family, _, _, _, where in found))  # type: ignore[misc]


def is_local(host: str) -> bool:
    """Return whether a host name or address is one of this machine's."""
    try:
        candidates = resolve(host, 0)
    except OSError:
        return False
    return any(_can_bind(family, address) for family, (address, _) in candidates)


def address_towards(host: str, port: int) -> str:
    """Return the address of the interface by which this machine reaches another.

    Nothing is sent: the kernel only chooses a route.

    Raises:
        OSError: The name can't be resolved, or there is no route.
    """
    problem: OSError | None = None
    for family, (address, number) in resolve(host, port or 1):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((address, number))
            except OSError as error:
                problem = error
                continue
            return str(probe.getsockname()[0])
    raise problem or OSError(errno.EADDRNOTAVAIL, f"no address for {host!r}")


def is_loopback(address: str) -> bool:
    """Return whether an address is only of use on this machine."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def free_port() -> int:
    """Return a port that nobody listens on now; a `PortClaim` is the safer way."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


class PortClaim:
    """A port for one round's workers, which no other elrun on this machine chooses meanwhile.

    The process that will listen there is a worker, which starts later. So the port is outside the
    range from which the kernel serves outgoing connections and ``bind`` to port 0; and an abstract
    Unix socket, which belongs to the network namespace as ports do, says that it is taken.

    Args:
        claims: Where to look for the kernel's range; tests give another file.

    Raises:
        OSError: No port is free.
    """

    def __init__(self, claims: str = _EPHEMERAL_RANGE_FILE) -> None:
        choose = random.SystemRandom()
        ports = _ports_outside(claims)
        for _ in range(_ATTEMPTS):
            port = choose.choice(ports)
            claim = _claim(port)
            if claim is None:
                continue
            if _can_listen(port):
                self.port = port
                self._claim: socket.socket | None = claim
                return
            claim.close()
        raise OSError(errno.EADDRINUSE, f"no free port between {ports[0]} and {ports[-1]}")

    def release(self) -> None:
        """Let others have the port."""
        if self._claim is not None:
            self._claim.close()
            self._claim = None


def _ports_outside(range_file: str) -> range:
    """Return the larger part of the unprivileged ports that the kernel does not give out itself."""
    low, high = 32768, 60999
    with contextlib.suppress(OSError, ValueError), open(range_file, encoding="ascii") as file:
        low, high = (int(bound) for bound in file.read().split())
    below = range(_FIRST_UNPRIVILEGED_PORT + 9_000, low)
    above = range(high + 1, MAX_PORT + 1)
    best = max(below, above, key=len)
    return best if len(best) > _ATTEMPTS else range(_FIRST_UNPRIVILEGED_PORT, MAX_PORT + 1)


def _claim(port: int) -> socket.socket | None:
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0elrun-port-{port}")
    except OSError:
        claim.close()
        return None
    return claim


def _can_listen(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as torch's store binds
        try:
            probe.bind(("", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def _can_bind(family: socket.AddressFamily, address: str) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
