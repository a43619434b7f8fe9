"""Requests to one member of etcd over its v3 API, by way of etcd3gw."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ...network.addresses import Endpoint
from .etcd_store import REQUEST_S
from .failover import AnswerTime, Refused, Unreachable, plain_reason
from .settings import EtcdSettings

# A watch is silent until etcd says, every ten minutes, that there was nothing to say.
_SILENCE_S = 900
_CONNECTIONS = 64
# Of gRPC: etcd has no space left, or too much to do. The latter is over soon.
_RESOURCE_EXHAUSTED = 8
_EXHAUSTED_S = 10.0


class Gateway:
    """One member of etcd.

    Args:
        settings: How etcd is reached.
        endpoint: The member.
    """

    def __init__(self, settings: EtcdSettings, endpoint: Endpoint) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self._client = open_client(settings, endpoint)
        self._login = threading.Lock()
        self._answer_time = AnswerTime(REQUEST_S)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the answer to a request.

        Args:
            path: Such as ``kv/txn``.
            body: As etcd's JSON gateway takes it.

        Raises:
            Unreachable: The member can't serve now.
            Refused: It refuses the request.
        """
        return self._with_token(lambda: self._post(path, body))

    def stream(self, path: str, body: Mapping[str, Any]) -> Any:
        """Return the response to a request, once it has begun; the caller reads and closes it.

        Raises:
            Unreachable: The member can't serve now.
            Refused: It refuses the request.
        """
        return self._with_token(lambda: self._stream(path, body))

    def log_in_again(self) -> None:
        """Get another token, as this one may have expired."""
        self._authenticate(spent=self._authenticate())

    def refuse(self, text: str) -> Refused | Unreachable:
        """Return the error that stands for an answer."""
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        known = said if isinstance(said, dict) else {}
        reason = known.get("message") or known.get("error") or text.strip()
        if known.get("code") == _RESOURCE_EXHAUSTED:
            return Unreachable(f"{self._endpoint}: {reason}", _EXHAUSTED_S)
        return Refused(f"etcd at {self._endpoint} refuses: {reason}")

    @property
    def answers_within_s(self) -> float:
        """How long the member has for its next answer."""
        return self._answer_time.seconds

    def close(self) -> None:
        """Let go of the connections that are idle."""
        self._client.session.close()

    def _with_token(self, ask: Callable[[], Any]) -> Any:
        token = self._authenticate()
        try:
            return ask()
        except Refused as refused:
            if not token or "invalid auth token" not in str(refused):
                raise
        self._authenticate(spent=token)
        return ask()

    def _stream(self, path: str, body: Mapping[str, Any]) -> Any:
        import requests  # noqa: PLC0415  etcd's users only
        from etcd3gw.exceptions import Etcd3Exception  # noqa: PLC0415

        try:
            response = self._client.session.post(
                self._client.get_url(path), json=body, stream=True, timeout=(REQUEST_S, _SILENCE_S)
            )
            if response.status_code == requests.codes["ok"]:
                return response
            with response:
                raise self.refuse(response.text)
        except (requests.RequestException, Etcd3Exception) as error:
            raise self._trouble(error) from error

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        import requests  # noqa: PLC0415  etcd's users only
        from etcd3gw import exceptions  # noqa: PLC0415

        began_at, is_answered = time.monotonic(), False
        self._client.timeout = self._answer_time.seconds
        try:
            answer = self._client.post(self._client.get_url(path), json=body)
            is_answered = True
        except (
            exceptions.ConnectionFailedError,
            exceptions.ConnectionTimeoutError,
            exceptions.InternalServerError,
            requests.RequestException,
        ) as error:
            raise self._trouble(error) from error
        except exceptions.Etcd3Exception as error:
            raise self.refuse(error.detail_text or str(error)) from error
        finally:
            self._answer_time.note(time.monotonic() - began_at, is_answered=is_answered)
        return answer

    def _trouble(self, error: BaseException) -> Exception:
        import requests  # noqa: PLC0415  etcd's users only

        reason = f"{self._endpoint}: {plain_reason(error)}"
        if isinstance(error.__context__, requests.exceptions.SSLError):
            return Refused(f"etcd at {reason} (--rdzv-conf protocol, cacert, cert, key)")
        return Unreachable(reason)

    def _authenticate(self, spent: str = "") -> str:
        """Return the token that goes with each request; empty where there is no user."""
        if not self._settings.user:
            return ""
        headers = self._client.session.headers
        with self._login:
            if headers.get("Authorization", spent) == spent:
                headers.pop("Authorization", None)
                credentials = {"name": self._settings.user, "password": self._settings.password}
                headers["Authorization"] = self._post("auth/authenticate", credentials)["token"]
            return str(headers["Authorization"])


def open_client(settings: EtcdSettings, endpoint: Endpoint) -> Any:
    """Return etcd3gw's client of one member; it connects when it is used.

    Args:
        settings: How etcd is reached.
        endpoint: The member.
    """
    import requests  # noqa: PLC0415  etcd's users only
    from etcd3gw import Etcd3Client  # noqa: PLC0415
    from requests.adapters import HTTPAdapter  # noqa: PLC0415

    session = requests.Session()
    # A site's web proxy does not lead to its etcd, nor is ~/.netrc about it.
    session.trust_env = False
    session.mount(f"{settings.protocol}://", HTTPAdapter(pool_maxsize=_CONNECTIONS))
    session.verify = settings.ca_cert or True
    if settings.cert:
        session.cert = (settings.cert, settings.key)
    return Etcd3Client(
        endpoint.host,
        endpoint.port,
        protocol=settings.protocol,
        timeout=REQUEST_S,
        session=session,
    )


def encode(data: bytes) -> str:
    """Return bytes as etcd's JSON gateway takes them."""
    return base64.b64encode(data).decode("ascii")


def decode(text: str) -> bytes:
    """Return the bytes that etcd's JSON gateway has written."""
    return base64.b64decode(text)
