"""Asks, before a failure ends the job, whether all other nodes of the round are alive.

Workers whose peer dies fail at once; that the peer's node is lost is known 2 s later. If the
failure had its say first, and no restart were left, losing a node would end the job, though the
others could go on without it. So whoever is about to report such a failure waits until every other
node has given a sign of life, which takes one heartbeat, or is found to be lost, which then is the
verdict.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ..api.handler import Placement
from ..protocol.keys import UNSURE_BEAT, RoundKeys
from ..protocol.timing import Timing
from ..stores.store import Store

# How many intervals lie between two looks: a beat that is a little late should not cost a third.
_INTERVALS = 1.2


def call_the_roll(
    store: Store,
    keys: RoundKeys,
    place: Placement,
    timing: Timing,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Return when all other members live, or the round has a verdict, or the patience is over.

    Args:
        store: The store.
        keys: The round's keys.
        place: Where this node stands.
        timing: How often the others beat, and how long to bear their silence.
        clock: A monotonic clock.
    """
    others = [keys.beat(rank) for rank in range(place.group_world_size) if rank != place.group_rank]
    unheard = dict(zip(others, store.get(others), strict=True))
    deadline = clock() + timing.patience_s + timing.heartbeat_s
    while unheard and clock() < deadline:
        if store.wait([keys.verdict], _INTERVALS * timing.heartbeat_s) is not None:
            return
        beats = store.get(list(unheard))
        unheard = {
            key: before
            for (key, before), beat in zip(unheard.items(), beats, strict=True)
            if beat in (before, UNSURE_BEAT)
        }
