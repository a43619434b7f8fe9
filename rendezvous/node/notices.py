"""What a member hears while its round runs: agents' notices, and of a node that waits beside it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from ..api.handler import Placement
from ..logs import Log
from ..protocol.keys import RoundKeys, RunKeys
from ..protocol.wire import read_node
from ..stores.steps import Asking, Steps
from .round_state import RoundState

log = Log(__name__)

Hear = Callable[[str, int, bytes], None]

_RENEW_S = 60.0
"""How often a wait is renewed: that of a round that has ended is not."""


def hear_notices(
    store: Asking, keys: RoundKeys, state: RoundState, place: Placement, topic: str, hear: Hear
) -> Steps[None]:
    """Pass on the notices of a topic in their order, until the round has ended."""
    for number in itertools.count():
        notice = yield from _await_in_round(store, state, place, keys.notice(topic, number))
        if notice is None:
            return
        if state.place is place:
            hear(topic, number, notice)


def tell_of_spare(store: Asking, run: RunKeys, state: RoundState, place: Placement) -> Steps[None]:
    """Wait, as the first node of a full round, for the first spare, and say which node it is.

    Where a second job was given the run id and the endpoint of a running one, each of its nodes
    says that it waits as a spare; nobody would learn of that on the screen of the first job.
    """
    key = run.round(place.round + 1).node(0)
    record = yield from _await_in_round(store, state, place, key)
    if record is None:
        return
    (verdict,) = yield store.get([run.round(place.round).verdict])
    node = read_node(key, record)
    if verdict is None and node.origin is None and not node.is_withdrawn:
        state.spare_is_told_of = True
        log.warning(
            "run %r has all its nodes, and one more on %s waits as a spare; if that one is for "
            "another job, give that job another --rdzv-id",
            run.run_id,
            node.host,
        )


def _await_in_round(
    store: Asking, state: RoundState, place: Placement, key: str
) -> Steps[bytes | None]:
    """Return a value once it is there; None if the round has ended by then."""
    while state.place is place and state.verdict is None:
        found: list[bytes] | None = yield store.wait([key], _RENEW_S)
        if found is not None:
            return found[0]
    return None
