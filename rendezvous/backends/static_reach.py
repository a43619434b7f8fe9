"""The way of the other nodes of a static job to node rank 0."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..errors import RendezvousConnectionError, RendezvousStateError
from ..protocol.timing import Timing
from ..stores.server.client import StoreClient
from ..stores.server.dial import Target, Unreached, dial
from ..stores.server.hello import Hello
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


def connect_to_master(
    target: Target,
    me: Hello,
    timing: Timing,
    stop: threading.Event,
    clock: Callable[[], float] = time.monotonic,
) -> Connection:
    """Return a connection to node rank 0, as soon as that listens.

    Args:
        target: The master's address and port, and what it has to prove.
        stop: Ends the attempts.

    Raises:
        RendezvousConnectionError: Node rank 0 was not reached in time.
        RendezvousStateError: It refuses this node, for good.
        RendezvousClosedError: ``stop`` was set.
    """
    endpoint, timeout_s = target.endpoint, timing.join_timeout_s
    state = f"node rank 0 is not reached at {endpoint}"
    retry = Retry(stop, timeout_s, str(endpoint), state, clock)
    taken_since: float | None = None
    while True:
        answer = dial(target, me, _CONNECT_S, max(_GLANCE_S, min(_HANDSHAKE_S, timeout_s)))
        if isinstance(answer, Link):
            line = Line(answer, str(endpoint), timing.store_patience_s)
            return Connection(StoreClient(line), endpoint.host)
        reason = answer.reason
        if isinstance(answer, Unreached):
            taken_since = None
            reason = _FOREIGN if answer.is_foreign else reason
        else:
            now = clock()
            taken_since = now if taken_since is None else taken_since
            if answer.kind != TAKEN or now - taken_since >= 2 * timing.patience_s:
                raise RendezvousStateError(reason)
        if not retry.pause(reason):
            raise RendezvousConnectionError(
                f"node rank 0 was not reached at {endpoint} within {timeout_s:g} s "
                f"(--rdzv-conf join_timeout=...): {reason}"
            )
