"""Ports on which nobody listens yet."""

from __future__ import annotations

import _socket  # `socket` takes 2 ms of a start
import errno
import os
from contextlib import closing

from ..errors import PortTakenError, RendezvousError
from .addresses import MAX_PORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_EPHEMERAL_RANGE_FILE = "/proc/sys/net/ipv4/ip_local_port_range"
_LINE_BYTES = 64
_CLAIMABLE = range(15000, MAX_PORT + 1)
# A prime that does not divide their number: so every port is visited, neighbours far apart.
_STRIDE = 7919
_FIRST_LOOKS = 5000
# What users of torch write into their scripts: the rendezvous' and the master's default port.
_WELL_KNOWN = frozenset({29400, 29500})
# Thousands of workers connect at once; the kernel cuts it down to net.core.somaxconn.
_BACKLOG = 65535
_LACKS_FAMILY = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL)
_OF_ONE_PORT = (errno.EADDRINUSE, errno.EACCES, errno.EPERM)


def free_port() -> int:
    """Return a TCP port that nobody listens on now."""
    with closing(_bound_anywhere(0)) as listener:
        return int(listener.getsockname()[1])


def listen_at(port: int) -> _socket.socket:
    """Return a socket that listens at a port of every interface, as torch's own store does.

    Raises:
        PortTakenError: Another program listens there.
        RendezvousError: This host has no network, or the port is not for this user.
    """
    try:
        listener = _bound_anywhere(port)
        try:
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        problem = f"port {port} of this host can't be had"
        if error.errno == errno.EADDRINUSE:
            from .port_holder import holder_of  # few jobs

            raise PortTakenError(f"{problem}: it is held by {holder_of(port)}") from error
        raise RendezvousError(f"{problem}: {error.strerror or error}") from error
    return listener


class PortClaim:
    """A port on which a round's workers will meet, kept from other elrun jobs on this host.

    The port lies outside of the range from which the kernel serves connections, so none can take
    it by chance. That it is taken is told to other jobs in this network namespace by a Unix socket
    with an abstract name, which vanishes with this process however it ends.

    Args:
        sign: The socket that says so.
    """

    def __init__(self, port: int, sign: _socket.socket) -> None:
        self.port = port
        self._sign = sign

    @staticmethod
    def take(candidates: Sequence[int] | None = None) -> PortClaim:
        """Claim a free port.

        Args:
            candidates: The ports to try, in order; by default some that no program is known for,
                from a place that differs with every call.

        Raises:
            RendezvousError: None of them is free, or this process can open no socket.
        """
        for port in _shuffled_ports() if candidates is None else candidates:
            sign = None
            try:
                sign = _hang_sign(port)
                if sign is None:
                    continue
                _bound_anywhere(port).close()
            except OSError as error:
                if sign is not None:
                    sign.close()
                if error.errno in _OF_ONE_PORT:
                    continue
                raise RendezvousError(
                    f"no port can be had for the workers' store: {error.strerror or error}"
                ) from error
            return PortClaim(port, sign)
        raise RendezvousError("no port is free for the workers' store: all ports are in use")

    def listen(self) -> _socket.socket:
        """Return a socket that listens at the port; the claim stays, and keeps other jobs away.

        Raises:
            RendezvousError: A program that is no elrun has taken the port meanwhile.
        """
        try:
            return listen_at(self.port)
        except PortTakenError as error:  # which stands for a port that a person can change
            raise RendezvousError(str(error)) from error

    def release(self) -> None:
        """Let others have the port."""
        self._sign.close()


def _shuffled_ports() -> Iterator[int]:
    """Yield every claimable port; at first only those outside of the kernel's own range."""
    low, high = _ephemeral_range()
    start = int.from_bytes(os.urandom(4), "big")
    for step in range(_FIRST_LOOKS + len(_CLAIMABLE)):
        port = _CLAIMABLE[(start + step * _STRIDE) % len(_CLAIMABLE)]
        is_safe = not low <= port <= high
        if port not in _WELL_KNOWN and (is_safe or step >= _FIRST_LOOKS):
            yield port


def _ephemeral_range() -> tuple[int, int]:
    try:
        with open(_EPHEMERAL_RANGE_FILE, "rb", buffering=0) as file:
            low, high = file.read(_LINE_BYTES).split()
            return int(low), int(high)
    except (OSError, ValueError):  # no /proc here: Linux's default, which few change
        return 32768, 60999


def _hang_sign(port: int) -> _socket.socket | None:
    sign = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    try:
        sign.bind(f"\0elrun-port-{port}")
    except OSError:
        sign.close()
        return None
    return sign


def _bound_anywhere(port: int) -> _socket.socket:
    """Return a TCP socket that is bound to a port on every interface, or raise OSError."""
    refusal = OSError(errno.EADDRNOTAVAIL, "this host has neither IPv4 nor IPv6")
    for family, address in ((_socket.AF_INET6, "::"), (_socket.AF_INET, "0.0.0.0")):
        try:
            listener = _socket.socket(family, _socket.SOCK_STREAM)
        except OSError as error:
            refusal = _weightier(error, refusal)
            continue
        try:
            listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            if family == _socket.AF_INET6:
                listener.setsockopt(_socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY, 0)
            listener.bind((address, port))
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE:
                raise
            refusal = _weightier(error, refusal)
            continue
        return listener
    raise refusal


def _weightier(error: OSError, refusal: OSError) -> OSError:
    """Return the error if it says more than that this host lacks IPv4 or IPv6."""
    return refusal if error.errno in _LACKS_FAMILY else error
