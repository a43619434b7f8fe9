"""What ``elrun doctor`` looks at in the network: names, interfaces, the place to meet, etcd."""

from __future__ import annotations

import errno
import itertools
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ...rendezvous.api.parameters import RendezvousParameters
from ...rendezvous.errors import RendezvousError
from ...rendezvous.network.addresses import Endpoint, is_loopback
from ...rendezvous.network.hosts import addresses_of, published_address, socket_address
from ...rendezvous.network.hosts import is_local as is_here
from ...rendezvous.network.port_holder import holder_of, pid_of_holder
from .check import Check, failed, ok, warning

if TYPE_CHECKING:
    from ...rendezvous.stores.etcd.settings import EtcdSettings

_CONNECT_S = 5.0
_SLOW_S = 1.0
_OK = 200


def check_host_name() -> Iterator[Check]:
    """Look whether this host's name leads here, and how fast."""
    name = socket.gethostname()
    started = time.monotonic()
    addresses = [address for _, address in addresses_of(name)]
    took_s = time.monotonic() - started
    found = f"{name} is {', '.join(addresses) or 'unknown to the resolver'}"
    advice = f"add a line for {name} to /etc/hosts, or ask who runs the name service"
    if not addresses:
        yield warning("host name", found, advice)
    elif not is_here(name):
        yield failed("host name", f"{found}, no address of this host", advice)
    elif took_s > _SLOW_S:
        yield warning("host name", f"{found}; the answer took {took_s:.1f} s", advice)
    else:
        yield ok("host name", found)


def check_interfaces() -> Iterator[Check]:
    """List the interfaces that are up."""
    import psutil  # few verbs ask

    states = psutil.net_if_stats()
    families = (socket.AF_INET, socket.AF_INET6)
    shown = []
    for name, addresses in psutil.net_if_addrs().items():
        state = states.get(name)
        usable = [each.address for each in addresses if each.family in families]
        if state is None or not state.isup or not usable or all(map(is_loopback, usable)):
            continue
        speed = f", {state.speed} Mbit/s" if state.speed else ""
        shown.append(f"{name} ({', '.join(usable)}{speed})")
    if shown:
        yield ok("interfaces", "; ".join(shown))
    else:
        found = "none is up but the loopback"
        yield warning("interfaces", found, "jobs of one node run; others need a network")


def check_address(endpoint: Endpoint, local_addr: str | None, nodes: int) -> Iterator[Check]:
    """Look at the address that this node gives to the others."""
    address = published_address(endpoint, local_addr)
    if nodes > 1 and is_loopback(address) and not is_loopback(endpoint.host):
        found = f"{address}, which leads each other node to itself"
        advice = "give --local-addr the address that other nodes reach, or mend /etc/hosts"
        yield failed("address of this node", found, advice)
    else:
        yield ok("address of this node", address)


def check_endpoint(endpoint: Endpoint) -> Iterator[Check]:
    """Look whether the place to meet can be had here, or reached from here."""
    name = f"endpoint {endpoint}"
    addresses = addresses_of(endpoint.host)
    if not addresses:
        found = f"the name {endpoint.host} can't be resolved"
        yield failed(name, found, "give --rdzv-endpoint a name or an address that all nodes know")
        return
    if is_here(endpoint.host):
        yield _own_port(name, endpoint)
        return
    yield _remote_port(name, endpoint, addresses)


def _own_port(name: str, endpoint: Endpoint) -> Check:
    if endpoint.port == 0:
        return ok(name, "this host, any free port")
    family, address = addresses_of(endpoint.host)[0]
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(socket_address(address, endpoint.port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            if _is_doctor(pid_of_holder(endpoint.port)):
                return ok(name, "this host, where another node's doctor listens already")
            found = f"this host; the port is held by {holder_of(endpoint.port)}"
            advice = "fine if that is an agent of this job; else give another port"
            return warning(name, found, advice)
        found = f"this host can't listen there: {error.strerror}"
        return failed(name, found, "give a port that you may use")
    return ok(name, "this host, and the port is free")


def _is_doctor(pid: int) -> bool:
    """Return whether a process is ``elrun doctor``, as that of another node of this host is."""
    import psutil  # few verbs ask

    try:
        words = psutil.Process(pid).cmdline() if pid else []
    except (OSError, psutil.Error):  # it has ended, or is another user's
        return False
    pairs = itertools.pairwise(map(os.path.basename, words))
    return ("elrun", "doctor") in pairs


def _remote_port(
    name: str, endpoint: Endpoint, addresses: list[tuple[socket.AddressFamily, str]]
) -> Check:
    problem = ""
    for family, address in addresses:
        started = time.monotonic()
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.settimeout(_CONNECT_S)
                probe.connect(socket_address(address, endpoint.port))
            return ok(name, f"something listens; {(time.monotonic() - started) * 1000:.1f} ms away")
        except ConnectionRefusedError:
            took_ms = (time.monotonic() - started) * 1000
            return ok(name, f"reached in {took_ms:.1f} ms; nothing listens there yet")
        except OSError as error:
            problem = f"{address}: {error.strerror or 'no answer'}"
    advice = "see whether that host is up, and whether a firewall drops the connection"
    return failed(name, f"it can't be reached ({problem})", advice)


def check_etcd(endpoint: Endpoint, settings: Mapping[str, Any]) -> Iterator[Check]:
    """Look at a member of etcd: its version, and whether it can serve.

    Args:
        settings: Those of ``--rdzv-conf``.
    """
    from ...rendezvous.stores.etcd.settings import etcd_settings  # few verbs

    name = f"etcd at {endpoint}"
    params = RendezvousParameters("etcd", str(endpoint), "doctor", 1, 1, **settings)
    try:
        reached_by = etcd_settings(params)
        version = json.loads(_get(endpoint, "/version", reached_by))
        health = json.loads(_get(endpoint, "/health", reached_by))
    except (OSError, ValueError, RendezvousError) as error:
        advice = "start it, or give another member; protocol and certificates go into --rdzv-conf"
        yield failed(name, f"it does not answer: {error}", advice)
        return
    found = f"version {version.get('etcdserver', 'unknown')}"
    if str(health.get("health")).lower() == "true":
        yield ok(name, f"{found}, healthy")
    else:
        reason = health.get("reason") or "it says no more"
        yield failed(name, f"{found}, not healthy: {reason}", "ask etcdctl endpoint health")


def _get(endpoint: Endpoint, path: str, settings: EtcdSettings) -> bytes:
    from http.client import HTTPConnection, HTTPException, HTTPSConnection  # few verbs

    connection: HTTPConnection
    if settings.protocol == "https":
        from ...rendezvous.stores.etcd.settings import tls_context  # few verbs

        tls = tls_context(settings)
        connection = HTTPSConnection(*endpoint, timeout=_CONNECT_S, context=tls)
    else:
        connection = HTTPConnection(*endpoint, timeout=_CONNECT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(1 << 16)
    except HTTPException as error:
        raise OSError(errno.EPROTO, f"it speaks no HTTP ({error!r})") from error
    finally:
        connection.close()
    if answer.status != _OK and path != "/health":
        raise OSError(errno.EPROTO, f"HTTP status {answer.status}")
    return body
