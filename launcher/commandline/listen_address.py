"""The address of ``--metrics-port``: a port, or an address and a port."""

from __future__ import annotations

LOOPBACK = "127.0.0.1"


def parse_listen_address(text: str) -> tuple[str, int]:
    """Return the address and the port to listen at.

    Args:
        text: ``9400`` for the loopback address, or ``0.0.0.0:9400``, ``[::]:9400``.

    Raises:
        ValueError: It is neither.
    """
    from ...rendezvous.network.addresses import parse_endpoint  # few jobs

    try:
        endpoint = parse_endpoint(f"{LOOPBACK}:{text}" if text.isdecimal() else text)
    except ValueError:
        endpoint = None
    if endpoint is None or not endpoint.has_port:
        raise ValueError("give PORT for this host only, or ADDRESS:PORT such as 0.0.0.0:9400")
    return endpoint.host, endpoint.port
