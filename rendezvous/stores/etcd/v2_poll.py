"""Waits for events of etcd's v2 API, on a connection of its own that can be broken off."""

from __future__ import annotations

import binascii
import json
import time
from typing import Any

from ...named_tuple import NamedTuple
from ...network.addresses import Endpoint
from .etcd_store import REQUEST_S
from .failover import Unreachable, plain_reason
from .http_connection import HttpConnection
from .settings import EtcdSettings, tls_context

_OK = 200


class Event(NamedTuple):
    """What has happened to one entry.

    Args:
        value: What it holds now; None: it has been removed.
        number: etcd's number of the event.
    """

    path: str
    value: str | None
    number: int


class Poll:
    """A member of etcd that is asked for one event after the other.

    Args:
        folder: Where the events are to happen, or below.
    """

    def __init__(self, settings: EtcdSettings, endpoint: Endpoint, folder: str) -> None:
        self._endpoint = endpoint
        self._folder = folder
        self._fields = f"Host: {endpoint}\r\n{_proof(settings)}\r\n"
        tls = tls_context(settings) if settings.protocol == "https" else None
        try:
            self._connection = HttpConnection(endpoint, tls, time.monotonic() + REQUEST_S)
        except OSError as error:
            raise self._trouble(error) from error

    def next_event(self, index: int, deadline: float) -> Event | None:
        """Return the first event from an index on; None if none comes by then, on this clock.

        After None the poll is over.

        Raises:
            Unreachable: The member can't serve any more, or has forgotten this index.
        """
        query = f"wait=true&recursive=true&waitIndex={index}"
        request = f"GET /v2/keys{self._folder}?{query} HTTP/1.1\r\n{self._fields}"
        try:
            head, body = self._connection.ask(request.encode("ascii", "replace"), deadline)
        except TimeoutError:
            return None
        except OSError as error:
            raise self._trouble(error) from error
        try:
            if head.status == _OK and body:
                return _event(json.loads(body))
        except (ValueError, KeyError, TypeError):
            pass
        raise Unreachable(f"{self._endpoint}: it tells of no event")

    def interrupt(self) -> None:
        """Let ``next_event`` raise at once; from any thread."""
        self._connection.interrupt()

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _trouble(self, error: OSError) -> Unreachable:
        return Unreachable(f"{self._endpoint}: {plain_reason(error)}")


def _event(message: Any) -> Event:
    node = message["node"]
    is_removed = message["action"] in ("delete", "expire")
    value = None if is_removed else str(node.get("value", ""))
    return Event(str(node["key"]), value, int(node["modifiedIndex"]))


def _proof(settings: EtcdSettings) -> str:
    if not settings.user:
        return ""
    credentials = f"{settings.user}:{settings.password}".encode("latin-1", "replace")
    proof = binascii.b2a_base64(credentials, newline=False).decode("ascii")
    return f"Authorization: Basic {proof}\r\n"
