"""The way of the other nodes of a static job to node rank 0."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..errors import RendezvousConnectionError, RendezvousStateError
from ..protocol.timing import Timing
from ..stores.server.client import StoreClient
from ..stores.server.dial import Target, Unreached, dial
from ..stores.server.hello import Hello, Refusal
from ..stores.server.line import Line
from ..stores.server.link import Link
from ..stores.server.retry import Retry
from ..stores.store import Connection
from .static_admission import TAKEN

_CONNECT_S = 5.0
_HANDSHAKE_S = 5.0
_GLANCE_S = 0.5
_FOREIGN = (
    "another program answers there, or the workers of an attempt that still runs; every node must "
    "run elrun"
)


class OtherNode:
    """Connects a node of another rank to the master, node rank 0, as soon as that listens.

    Args:
        target: The master's address and port, and what it has to prove.
    """

    conflict = doubt = ""
    """See ``MasterNode``: what is wrong is told when node rank 0 can't be reached."""

    def __init__(
        self,
        target: Target,
        me: Hello,
        timing: Timing,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target = target
        self._endpoint = target.endpoint
        self._me = me
        self._timing = timing
        self._clock = clock
        self._taken_since: float | None = None

    def __call__(self, stop: threading.Event) -> Connection:
        """Return a connection, as soon as there is something to connect to.

        Raises:
            RendezvousConnectionError: Node rank 0 was not reached in time.
            RendezvousStateError: It refuses this node.
            RendezvousClosedError: ``stop`` was set.
        """
        timeout_s = self._timing.join_timeout_s
        state = f"node rank 0 is not reached at {self._endpoint}"
        retry = Retry(stop, timeout_s, str(self._endpoint), state, self._clock)
        while True:
            answer = dial(
                self._target, self._me, _CONNECT_S, max(_GLANCE_S, min(_HANDSHAKE_S, timeout_s))
            )
            if isinstance(answer, Link):
                line = Line(answer, str(self._endpoint), self._timing.store_patience_s)
                return Connection(StoreClient(line), self._endpoint.host)
            reason = self._reason_of(answer)
            if not retry.pause(reason):
                raise RendezvousConnectionError(
                    f"node rank 0 was not reached at {self._endpoint} within {timeout_s:g} s "
                    f"(--rdzv-conf join_timeout=...): {reason}"
                )

    def _reason_of(self, answer: Refusal | Unreached) -> str:
        """Return why there is no connection yet.

        Raises:
            RendezvousStateError: There will be none: this node is refused, for good.
        """
        if isinstance(answer, Unreached):
            self._taken_since = None
            return _FOREIGN if answer.is_foreign else answer.reason
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
