"""How etcd is reached: by ``--rdzv-endpoint`` and the settings of ``--rdzv-conf``, and by TLS."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...api.parameters import RendezvousParameters, read_file, tls_files
from ...network.addresses import Endpoint
from .failover import Refused

if TYPE_CHECKING:
    from ssl import SSLContext

DEFAULT_PORT = 2379
HOW_TO_TRUST = "(--rdzv-conf protocol, cacert, cert, key)"

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
        names = ("ssl_cert", "ssl_cert_key") if _has_torch_names(params) else ("cert", "key")
        raise ValueError(
            f"--rdzv-conf {'=..., '.join(names)}=...: a certificate and its key go together"
        )
    protocol = str(params.get("protocol") or ("https" if any(files) else "http"))
    if protocol not in _PROTOCOLS:
        raise ValueError(f"--rdzv-conf protocol={protocol}: give http or https")
    if protocol == "http" and any(files):
        raise ValueError("--rdzv-conf protocol=http: certificates need https")
    return EtcdSettings(endpoints, protocol, cacert, cert, key, *_credentials(params))


def _has_torch_names(params: RendezvousParameters) -> bool:
    return bool(params.get("ssl_cert") or params.get("ssl_cert_key"))


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


def tls_context(settings: EtcdSettings) -> SSLContext:
    """Return what makes connections encrypted.

    Raises:
        Refused: A certificate or a key is none.
    """
    import ssl  # only jobs with https need it

    try:
        context = ssl.create_default_context(cafile=settings.ca_cert or None)
        if settings.cert:
            # Without a function, OpenSSL would ask the terminal for the password of a key.
            context.load_cert_chain(settings.cert, settings.key, password=str)
    except OSError as error:
        files = ", ".join(filter(None, (settings.ca_cert, settings.cert, settings.key)))
        raise Refused(f"{files}: no certificate and key that fit: {error.strerror}") from error
    return context


def is_tls_refusal(error: OSError) -> bool:
    """Return whether one side does not trust the other, or does not encrypt."""
    ssl = sys.modules.get("ssl")
    if ssl is None:
        return False
    lost = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
    return isinstance(error, ssl.SSLError) and not isinstance(error, (*lost, TimeoutError))
