"""How a node says that it can't take part, so that the others need not wait for it.

The node takes a seat in the round that forms, as a node that joins does, and its record says why it
leaves at once: a script that is missing there, for example. The nodes that wait show that. If too
few nodes are left, ``decide`` gives the round up, and the run ends for all of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from ..errors import RendezvousRoundOverError
from ..protocol.keys import GONE_BEAT, RoundKeys, RunKeys
from ..protocol.records import Node
from ..protocol.round import DOOR, seats_taken
from ..protocol.wire import write_node
from ..stores.steps import Asking, Steps

MAX_REASON_CHARS = 300
_MOST_ROUNDS = 100


def decline(
    store: Asking,
    run: RunKeys,
    number: int,
    node: Node,
    timeout_s: float,
    clock: Callable[[], float],
) -> Steps[bool]:
    """Leave a record that says why a node can't take part; return whether a round has got it.

    A node that hosts the store stays until the others have left, for a bounded time.

    Args:
        number: The round that forms; a later one is taken where that one was closed, or freed.
        node: The node's record; withdrawn, and with the reason.
        timeout_s: How long the host of the store stays at most.
    """
    until = clock() + timeout_s
    record = write_node(node)
    for keys in map(run.round, range(number, number + _MOST_ROUNDS)):
        seat = None
        with contextlib.suppress(RendezvousRoundOverError):  # the run's record lags far behind
            seat = yield from _leave_record(store, keys, record)
        if seat is None:
            continue
        if node.is_host:
            others = [keys.left(n) for n in range(node.limits.max_nodes) if n != seat]
            yield store.wait(others, max(0.0, until - clock()))
        return True
    return False


def _leave_record(store: Asking, keys: RoundKeys, record: bytes) -> Steps[int | None]:
    """Leave a record at a seat of its own; return the seat, None where the door is shut."""
    taken = yield store.add(keys.seats, 1)
    if taken > DOOR:
        return None
    seat = max(0, seats_taken(taken) - 1)
    yield store.set({keys.seat_beat(seat): GONE_BEAT, keys.left(seat): b"1"})
    while (yield store.create(keys.node(seat), record)) != record:
        seat += 1
    return seat
