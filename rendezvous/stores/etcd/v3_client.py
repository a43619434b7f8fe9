"""Requests to one member of etcd over its v3 API: JSON over HTTP, on connections that are kept.

A request may be made twice: if a kept connection turns out to be half-closed, it is unknown whether
the member has read the request. So every request must bear to be made again, as ``Failover`` asks
for anyway.
"""

from __future__ import annotations

import binascii
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ...network.addresses import Endpoint
from .etcd_store import REQUEST_S
from .failover import AnswerTime, Refused, Unreachable, plain_reason
from .http_connection import Head, HttpConnection, Place
from .settings import HOW_TO_TRUST, EtcdSettings, is_tls_refusal, tls_context

if TYPE_CHECKING:
    from ssl import SSLContext

_KEPT_CONNECTIONS = 4
_OK, _MULTIPLE_CHOICES, _BAD_REQUEST, _SERVER_ERROR = 200, 300, 400, 500
# Of gRPC: etcd has no space left, or too much to do. The latter is over soon.
_RESOURCE_EXHAUSTED = 8
_EXHAUSTED_S = 10.0
# Of gRPC: cancelled, deadline exceeded, aborted, internal, unavailable, data loss.
_TRANSIENT = frozenset({1, 4, 10, 13, 14, 15})
# What answers is no etcd: perhaps a proxy before an etcd that starts, more likely a wrong address.
_ELSEWHERE_S = 5.0
_LONGEST_QUOTE = 200

_T = TypeVar("_T")


class Gateway:
    """One member of etcd."""

    def __init__(self, settings: EtcdSettings, endpoint: Endpoint) -> None:
        self._settings = settings
        self.endpoint = endpoint
        self.place = Place(endpoint)
        self.answer_time = AnswerTime(REQUEST_S)
        """How long the member has for its next answer."""
        self._idle: list[HttpConnection] = []
        self._is_closed = False
        self._has_served = False
        # Guards the making of the context.
        self._lock = threading.Lock()
        self._token = ""
        self._tls: SSLContext | None = None

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the answer to a request.

        Args:
            path: Such as ``kv/txn``.

        Raises:
            Unreachable: The member can't serve now.
            Refused: It refuses the request.
        """
        return self._with_token(lambda token: self._post(path, body, token))

    def stream(self, path: str, text: str) -> HttpConnection:
        """Send a request whose answer may go on for ever; the caller reads it and closes it.

        Args:
            path: Such as ``watch``.
            text: JSON.
        """
        deadline = time.monotonic() + self.answer_time.seconds
        request = self._request(path, text, self._authenticate())
        try:
            connection = HttpConnection(self.place, self._context(), deadline)
            try:
                connection.send(request, deadline)
            except BaseException:
                connection.close()
                raise
        except OSError as error:
            raise self.trouble(error) from error
        return connection

    def log_in_again(self) -> None:
        """Get another token, as this one may have expired."""
        self._authenticate(spent=self._authenticate())

    def refusal(self, head: Head, body: bytes) -> Refused | Unreachable:
        """Return the error that an answer stands for, if it is none that etcd gives to success."""
        text = body.decode(errors="replace").strip()
        status, kind = head.status, head.fields.get(b"content-type", b"").partition(b";")[0]
        at, (code, message) = self.endpoint, _error_in(_parse(body))
        if code == _RESOURCE_EXHAUSTED:
            return Unreachable(f"{at}: {message}", _EXHAUSTED_S)
        if status >= _SERVER_ERROR or code in _TRANSIENT:
            why = text[:_LONGEST_QUOTE] if kind == b"text/plain" else f"HTTP status {status}"
            return Unreachable(f"{at}: {message or why}")
        if message or (status == _BAD_REQUEST and kind != b"text/html"):
            return Refused(f"etcd at {at} refuses: {message or text[:_LONGEST_QUOTE]}", code)
        if _MULTIPLE_CHOICES <= status < _BAD_REQUEST:
            place = head.fields.get(b"location", b"?").decode(errors="replace")
            return Unreachable(f"{at}: it sends its clients to {place}: give that", _ELSEWHERE_S)
        answer = f"{kind.decode(errors='replace') or 'something'} (HTTP status {status})"
        return Unreachable(
            f"{at}: it answers with {answer} instead of etcd's JSON: is it an etcd that serves "
            "the v3 API over HTTP?",
            _ELSEWHERE_S,
        )

    def trouble(self, error: OSError) -> Unreachable:
        """Return the error that stands for a connection that could not be made, or was lost."""
        self.place.forget()
        reason = f"{self.endpoint}: {plain_reason(error)}"
        if not self._has_served and is_tls_refusal(error):
            return Unreachable(f"{reason} {HOW_TO_TRUST}", 0.0)
        return Unreachable(reason)

    def close(self) -> None:
        """Let go of the connections that are idle."""
        self._is_closed = True
        self._drop_idle()

    def _post(self, path: str, body: Mapping[str, Any], token: str) -> Any:
        head, answer = self._ask(self._request(path, json.dumps(body), token))
        result = _parse(answer) if head.status == _OK else None
        if not isinstance(result, dict) or not ("header" in result or "result" in result):
            raise self.refusal(head, answer)
        self._has_served = True
        return result

    def _ask(self, request: bytes) -> tuple[Head, bytes]:
        """Return the answer to a request, over a connection that is kept if there is one."""
        began_at, is_answered = time.monotonic(), False
        deadline = began_at + self.answer_time.seconds
        try:
            answer = self._over_kept(request, deadline) or self._over(
                HttpConnection(self.place, self._context(), deadline), request, deadline
            )
            is_answered = True
        except OSError as error:
            self._drop_idle()  # what one of them has met, the others have too
            raise self.trouble(error) from error
        finally:
            self.answer_time.note(time.monotonic() - began_at, is_answered=is_answered)
        return answer

    def _over_kept(self, request: bytes, deadline: float) -> tuple[Head, bytes] | None:
        """Return an answer; None if there was no connection, or only one that had been closed."""
        try:
            connection = self._idle.pop()
        except IndexError:
            return None
        try:
            return self._over(connection, request, deadline)
        except TimeoutError:
            raise
        except OSError:
            return None

    def _over(
        self, connection: HttpConnection, request: bytes, deadline: float
    ) -> tuple[Head, bytes]:
        is_kept = False
        try:
            answer = connection.ask(request, deadline)
            is_kept = connection.is_reusable and len(self._idle) < _KEPT_CONNECTIONS
        finally:
            if not is_kept or self._is_closed:
                connection.close()
        if is_kept and not self._is_closed:
            self._idle.append(connection)
        return answer

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _request(self, path: str, text: str, token: str) -> bytes:
        proof = f"Authorization: {token}\r\n" if token else ""
        return (
            f"POST /v3/{path} HTTP/1.1\r\nHost: {self.endpoint}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n{proof}\r\n{text}"
        ).encode("ascii", "replace")  # a host's name may be no ASCII; the body always is

    def _context(self) -> SSLContext | None:
        with self._lock:
            if self._tls is None and self._settings.protocol == "https":
                self._tls = tls_context(self._settings)
            return self._tls

    def _with_token(self, ask: Callable[[str], _T]) -> _T:
        token = self._authenticate()
        try:
            return ask(token)
        except Refused:
            if not token:
                raise
        return ask(self._authenticate(spent=token))  # it may have expired

    def _authenticate(self, spent: str | None = None) -> str:
        """Return the token that goes with each request; empty where there is no user."""
        if not self._settings.user:
            return ""
        standing = self._token
        if standing and standing != spent:
            return standing
        credentials = {"name": self._settings.user, "password": self._settings.password}
        self._token = str(self._post("auth/authenticate", credentials, "")["token"])
        return self._token


def encode(data: bytes) -> str:
    """Return bytes as etcd's JSON gateway takes them."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def decode(text: str) -> bytes:
    """Return the bytes that etcd's JSON gateway has written."""
    return binascii.a2b_base64(text)


def _error_in(answer: Any) -> tuple[int, str]:
    """Return gRPC's code and etcd's words for an error; 0 and nothing if an answer has none."""
    if not isinstance(answer, dict):
        return 0, ""
    error = answer.get("error")
    known = error if isinstance(error, dict) else answer  # so where the answer is a stream
    code = known.get("code", known.get("grpc_code"))
    words = str(known.get("message") or known.get("error") or "")
    return code if isinstance(code, int) else 0, words


def _parse(body: bytes) -> Any:
    """Return what JSON says; None if it is none."""
    try:
        return json.loads(body)
    except ValueError:
        return None
