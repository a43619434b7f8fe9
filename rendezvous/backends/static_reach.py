"""The way of the other nodes of a static job to node rank 0."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable

from ..errors import RendezvousClosedError, RendezvousConnectionError, RendezvousStateError
from ..network.addresses import Endpoint
from ..protocol.announcements import Announcement, is_worth_telling
from ..protocol.timing import Timing
from ..stores.server.client import StoreClient, shake_hands
from ..stores.server.wire import Hello, Refusal, WireError
from ..stores.store import Connection
from .static_admission import TAKEN

log = logging.getLogger(__name__)

_CONNECT_S = 5.0
_HANDSHAKE_S = 5.0
_GLANCE_S = 0.5
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_NOTICE_S = 5.0


class OtherNode:
    """Connects a node of another rank to the master, node rank 0, as soon as that listens.

    Args:
        endpoint: The master's address and port.
        me: This node.
        timing: For how long to try.
        clock: A monotonic clock.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        me: Hello,
        timing: Timing,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = endpoint
        self._me = me
        self._timing = timing
        self._clock = clock
        self._taken_since: float | None = None

    def __call__(self, stop: threading.Event) -> Connection:
        """Return a connection, as soon as there is something to connect to.

        Args:
            stop: Ends the attempts.

        Raises:
            RendezvousConnectionError: Node rank 0 was not reached in time.
            RendezvousStateError: It refuses this node.
            RendezvousClosedError: ``stop`` was set.
        """
        began_at = self._clock()
        pause_s, told = _FIRST_PAUSE_S, None
        while True:
            answer = self._try()
            if isinstance(answer, StoreClient):
                return Connection(answer, self._endpoint.host)
            reason = self._reason_of(answer)
            waited_s = self._clock() - began_at
            if waited_s >= self._timing.join_timeout_s:
                raise RendezvousConnectionError(
                    f"node rank 0 was not reached at {self._endpoint} within "
                    f"{self._timing.join_timeout_s:g} s (--rdzv-conf join_timeout=...): {reason}"
                )
            if is_worth_telling(reason, waited_s, told, first_s=_NOTICE_S):
                told = Announcement(reason, waited_s)
                log.warning(
                    "node rank 0 is not reached at %s yet: %s; it is tried for %g s "
                    "(--rdzv-conf join_timeout=...)",
                    self._endpoint,
                    reason,
                    self._timing.join_timeout_s,
                )
            if stop.wait(min(pause_s, self._timing.join_timeout_s - waited_s)):
                raise RendezvousClosedError(f"gave up reaching {self._endpoint}")
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _reason_of(self, answer: Refusal | str) -> str:
        """Return why there is no connection yet.

        Raises:
            RendezvousStateError: There will be none: this node is refused, for good.
        """
        if not isinstance(answer, Refusal):
            self._taken_since = None
            return answer
        now = self._clock()
        self._taken_since = now if self._taken_since is None else self._taken_since
        if answer.kind != TAKEN or now - self._taken_since >= 2 * self._timing.patience_s:
            raise RendezvousStateError(answer.reason)
        return answer.reason

    def open(self) -> None:
        """Do nothing: only node rank 0 listens."""

    def shut(self) -> None:
        """Do nothing: only node rank 0 listens."""

    def close(self) -> None:
        """Do nothing: only node rank 0 listens."""

    def _try(self) -> StoreClient | Refusal | str:
        """Return a connection, or why there is none."""
        host, port = self._endpoint
        try:
            connection = socket.create_connection((host, port), _CONNECT_S)
        except socket.gaierror as error:
            return f"the name {host} can't be resolved ({error.strerror})"
        except UnicodeError:  # a name that is too long, or has an empty part
            return f"{host} can't be a host name"
        except TimeoutError:
            return "it does not answer"
        except OSError as error:
            return error.strerror or str(error)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            timeout_s = max(_GLANCE_S, min(_HANDSHAKE_S, self._timing.join_timeout_s))
            answer = shake_hands(connection, self._me, timeout_s)
        except (OSError, WireError):
            connection.close()
            return (
                "another program answers there, or the workers of an attempt that still runs; "
                "every node must run elrun"
            )
        if isinstance(answer, Refusal):
            connection.close()
            return answer
        return StoreClient(connection, str(self._endpoint), self._timing.store_patience_s)
