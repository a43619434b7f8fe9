"""Tells the people of a full round which node waits beside it: it may be one of another job."""

from __future__ import annotations

from ..api.handler import Placement
from ..logs import Log
from ..protocol.keys import RunKeys
from ..protocol.wire import read_node
from ..stores.steps import Asking, Steps
from .round_state import RoundState

log = Log(__name__)

_RENEW_S = 60.0


def tell_of_spare(store: Asking, run: RunKeys, state: RoundState, place: Placement) -> Steps[None]:
    """Wait, as the first node of a full round, for the first spare, and say which node it is.

    Where a second job was given the run id and the endpoint of a running one, each of its nodes
    says that it waits as a spare; nobody would learn of that on the screen of the first job.
    """
    keys, following = run.round(place.round), run.round(place.round + 1)
    record: list[bytes] | None = None
    while record is None:
        if state.place is not place or state.verdict is not None:
            return
        record = yield store.wait([following.node(0)], _RENEW_S)
    (verdict,) = yield store.get([keys.verdict])
    node = read_node(following.node(0), record[0])
    if verdict is None and node.origin is None and not node.is_withdrawn:
        state.spare_is_told_of = True
        log.warning(
            "run %r has all its nodes, and one more on %s waits as a spare; if that one is for "
            "another job, give that job another --rdzv-id",
            run.run_id,
            node.host,
        )
