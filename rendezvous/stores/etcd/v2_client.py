"""Requests to one member of etcd over its v2 API, by way of python-etcd.

Events are waited for on connections of their own, which can be broken off.
"""

from __future__ import annotations

import binascii
import json
import socket
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

import etcd
import urllib3

from ...named_tuple import NamedTuple
from ...network.addresses import Endpoint
from .etcd_store import REQUEST_S
from .failover import AnswerTime, Refused, Unreachable, plain_reason
from .http_connection import HttpConnection, Place
from .settings import HOW_TO_TRUST, EtcdSettings, tls_context

_CONNECTIONS = 64
_OK = 200
_RAFT_ERRORS = range(300, 400)

_T = TypeVar("_T")


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

    def __init__(self, settings: EtcdSettings, place: Place, folder: str) -> None:
        self._place = place
        self._endpoint = endpoint = place.endpoint
        self._folder = folder
        self._fields = f"Host: {endpoint}\r\n{_proof(settings)}\r\n"
        tls = tls_context(settings) if settings.protocol == "https" else None
        try:
            self._connection = HttpConnection(place, tls, time.monotonic() + REQUEST_S)
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
        self._place.forget()
        return Unreachable(f"{self._endpoint}: {plain_reason(error)}")


class Member:
    """One member of etcd."""

    def __init__(self, settings: EtcdSettings, endpoint: Endpoint) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self.place = Place(endpoint)
        self._client = open_client(settings, self.place)
        self._answer_time = AnswerTime(REQUEST_S)

    def ask(self, function: Callable[[Any], _T]) -> _T:
        """Call a function with python-etcd's client, and return its result.

        Args:
            function: If it raises an error about a key (``EtcdKeyError``), that is raised here.

        Raises:
            Unreachable: The member can't serve now.
            Refused: It refuses the request.
        """
        began_at, is_answered = time.monotonic(), False
        self._client._read_timeout = self._answer_time.seconds  # noqa: SLF001  it has no setter
        try:
            answer = function(self._client)
            is_answered = True
        except etcd.EtcdKeyError:
            is_answered = True
            raise
        except etcd.EtcdException as error:
            raise self._convert(error) from error
        finally:
            self._answer_time.note(time.monotonic() - began_at, is_answered=is_answered)
        return answer

    def poll(self, folder: str) -> Poll:
        """Return what waits for the events in a folder."""
        return Poll(self._settings, self.place, folder)

    def close(self) -> None:
        """Let go of the connections that are idle."""
        self._client.http.clear()

    def _convert(self, error: Any) -> Exception:
        payload = error.payload if isinstance(error.payload, dict) else {}
        if isinstance(error, etcd.EtcdConnectionFailed):
            self.place.forget()
            reason = f"{self._endpoint}: {plain_reason(error)}"
            if "SSLError" in repr(error.cause):
                return Unreachable(f"{reason} {HOW_TO_TRUST}", 0.0)
            return Unreachable(reason)
        if payload.get("errorCode") in _RAFT_ERRORS:
            return Unreachable(f"{self._endpoint}: {error}")
        if "404 page not found" in str(error):
            return Refused(
                f"etcd at {self._endpoint} has no v2 API: "
                "give --rdzv-backend etcd-v3, or start etcd with --enable-v2"
            )
        return Refused(f"etcd at {self._endpoint} refuses: {error}")


def open_client(settings: EtcdSettings, place: Place) -> Any:
    """Return python-etcd's client of one member; it connects when it is used."""
    endpoint = place.endpoint
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    client = etcd.Client(
        host,
        endpoint.port,
        protocol=settings.protocol,
        cert=(settings.cert, settings.key) if settings.cert else None,
        ca_cert=settings.ca_cert or None,
        username=settings.user or None,
        password=settings.password or None,
        read_timeout=REQUEST_S,
        per_host_pool_size=_CONNECTIONS,
    )
    # By default urllib3 tries three times more, with a warning each time.
    client.http.connection_pool_kw["retries"] = urllib3.Retry(0)
    client.http.pool_classes_by_scheme = {
        "http": _pool_at(place, urllib3.HTTPConnectionPool),
        "https": _pool_at(place, urllib3.HTTPSConnectionPool),
    }
    return client


def _pool_at(place: Place, kind: type[urllib3.HTTPConnectionPool]) -> type:
    """Return a kind of pool whose connections, unlike urllib3's, look no known name up."""

    class Connection(kind.ConnectionCls):  # type: ignore[misc, name-defined]
        def _new_conn(self) -> socket.socket:
            within_s = REQUEST_S if self.timeout is None else self.timeout
            return place.connect(time.monotonic() + within_s)

    class Pool(kind):  # type: ignore[misc, valid-type]
        ConnectionCls = Connection

    return Pool


def path_of(prefix: str, key: str) -> str:
    """Return the path of a key's value.

    In v2 a name is either a folder or a value, a name that begins with an underscore is hidden, and
    dots lead elsewhere.

    Args:
        prefix: Begins and ends with a slash.
    """
    *folders, name = key.split("/")
    return prefix + "".join(f"{_word(folder)}~/" for folder in folders) + _word(name)


def _word(text: str) -> str:
    quoted = quote(text, safe="", errors="surrogateescape").replace("~", "%7E").replace("%", "=")
    return f"={quoted}" if quoted[:1] in ("_", ".", "") else quoted


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
