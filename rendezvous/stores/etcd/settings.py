"""How etcd is reached: ``--rdzv-endpoint`` and the settings of ``--rdzv-conf``."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...api.parameters import RendezvousParameters, read_file, tls_files
from ...network.addresses import Endpoint

DEFAULT_PORT = 2379

_PROTOCOLS = ("http", "https")


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """How etcd is reached.

    Args:
        endpoints: Its members; if one does not serve, the next one is asked.
        protocol: ``http`` or ``https``.
        ca_cert: File with the certificates of the authorities that may certify the members; empty:
            the system's.
        cert: File with this client's certificate; empty: none.
        key: File with its key.
        user: Name of a user of etcd; empty: none.
        password: That user's password.
    """

    endpoints: tuple[Endpoint, ...]
    protocol: str = "http"
    ca_cert: str = ""
    cert: str = ""
    key: str = ""
    user: str = ""
    password: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """Name of all the members, for people."""
        return "etcd at " + ",".join(str(endpoint) for endpoint in self.endpoints)


def etcd_settings(params: RendezvousParameters) -> EtcdSettings:
    """Return how etcd is reached.

    Args:
        params: The endpoint is ``host[:port]``, or several separated by commas; by default
            localhost and port 2379. Settings: ``protocol`` (http or https), ``cacert``, ``cert``
            and ``key`` (files), ``user``, and ``password_file``, as a password on a command line
            could be read by every user of the host.

    Raises:
        ValueError: The endpoint is none, or a setting is not what it should be.
    """
    endpoints = params.endpoints(Endpoint("localhost", DEFAULT_PORT))
    if any(endpoint.port == 0 for endpoint in endpoints):
        raise ValueError(f"endpoint {params.endpoint!r}: give HOST:PORT of an etcd that runs")
    files = tls_files(params)
    cacert, cert, key = files
    if bool(cert) != bool(key):
        raise ValueError("--rdzv-conf cert=..., key=...: a certificate and its key go together")
    protocol = str(params.get("protocol") or ("https" if any(files) else "http"))
    if protocol not in _PROTOCOLS:
        raise ValueError(f"--rdzv-conf protocol={protocol}: give http or https")
    if protocol == "http" and any(files):
        raise ValueError("--rdzv-conf protocol=http: certificates need https")
    return EtcdSettings(endpoints, protocol, cacert, cert, key, *_credentials(params))


def _credentials(params: RendezvousParameters) -> tuple[str, str]:
    if params.get("password") is not None:
        raise ValueError(
            "--rdzv-conf password=...: every user of this host could read it; put it into a file "
            "and give password_file=..."
        )
    user, path = params.get("user") or "", params.get("password_file") or ""
    if bool(user) != bool(path):
        raise ValueError("--rdzv-conf user=..., password_file=...: the two go together")
    if not path:
        return "", ""
    password = read_file("password_file", path).decode(errors="surrogateescape")
    return user, password.rstrip("\r\n")
