"""How a run goes on in a store that knows nothing of it: its survivors copy the last round there.

Every member of a round that may have to move keeps the round's roster. When the store is lost, each
member creates the same roster in the next store, and beside it the verdict that the round's store
was lost. Because ``create`` keeps what stands, it makes no difference which member comes first, nor
whether the "next" store is in truth the old one.

A member that had finished ends nothing: it finds that the others are still at work and can do
without it, so it waits with them for their verdict. Its success mark in the old store tells the two
cases apart: if the mark is in this store, this is the old store.

If other nodes have begun the run anew in the next store, or have copied another round there, a
survivor joins as a newcomer. (Where a later round stands, the round after the survivor's own has no
seats any more.) The number of restarts that the job has spent is kept: it is in each node's record.
"""

from __future__ import annotations

from ..api.handler import Verdict, VerdictKind
from ..liveness.round_watch import SpareWatch
from ..protocol.keys import RunKeys
from ..protocol.records import History
from ..protocol.wire import read_roster, read_verdict, write_roster, write_verdict
from ..stores.steps import Asking, Steps
from .finish import finish


def migrate_round(
    store: Asking, run: RunKeys, history: History, forming: int, rank: int, spare_watch: SpareWatch
) -> Steps[Verdict | None]:
    """Copy a run's last round into a store, so that the run goes on there.

    Args:
        history: The last round, and how it ended for this node.
        forming: The number of the round that forms in the store: the next one after the last
            round, if this node was the first to come.
        spare_watch: Waits for the members that are still at work, if this node had finished.

    Returns:
        The verdict that stands in the store; None if the store has another history of the run.
    """
    keys = run.round(history.roster.round)
    if forming != history.roster.round + 1:
        return None
    data = yield store.create(keys.roster, write_roster(history.roster))
    roster = read_roster(keys.roster, data)
    if roster != history.roster:
        return None
    verdict = history.verdict
    (mark,) = yield store.get([keys.success(rank)])
    if mark is not None:
        if (yield from finish(store, keys, rank, len(roster.members))):
            verdict = Verdict(VerdictKind.DONE, rank)
        else:
            yield from spare_watch.await_own_verdict(store, keys, roster, rank)
    standing = yield store.create(keys.verdict, write_verdict(verdict))
    return read_verdict(keys.verdict, standing)
