"""Encrypted connections to etcd."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .failover import Refused
from .settings import EtcdSettings

if TYPE_CHECKING:
    from ssl import SSLContext

HOW_TO_TRUST = "(--rdzv-conf protocol, cacert, cert, key)"


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
