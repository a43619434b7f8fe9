"""How etcd is reached: ``--rdzv-endpoint`` and the settings of ``--rdzv-conf``."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...api.parameters import RendezvousParameters
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
    files = {
        "ca_cert": params.get("cacert") or params.get("ca_cert") or "",
        "cert": params.get("cert") or params.get("ssl_cert") or "",
        "key": params.get("key") or params.get("ssl_cert_key") or "",
    }
    if bool(files["cert"]) != bool(files["key"]):
        raise ValueError("--rdzv-conf cert=..., key=...: a certificate and its key go together")
    protocol = str(params.get("protocol") or ("https" if any(files.values()) else "http"))
    if protocol not in _PROTOCOLS:
        raise ValueError(f"--rdzv-conf protocol={protocol}: give http or https")
    if protocol == "http" and any(files.values()):
        raise ValueError("--rdzv-conf protocol=http: certificates need https")
    for path in filter(None, files.values()):
        _read(path)
    return EtcdSettings(endpoints, protocol, **files, **_credentials(params))


def _credentials(params: RendezvousParameters) -> dict[str, str]:
    if params.get("password") is not None:
        raise ValueError(
            "--rdzv-conf password=...: every user of this host could read it; put it into a file "
            "and give password_file=..."
        )
    user, path = params.get("user") or "", params.get("password_file") or ""
    if bool(user) != bool(path):
        raise ValueError("--rdzv-conf user=..., password_file=...: the two go together")
    return {"user": user, "password": _read(path).rstrip("\r\n") if path else ""}


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"--rdzv-conf: {path} can't be read: {error.strerror}") from error
