"""How a run goes on in a store that knows nothing of it: its survivors bring the last round along.

Every member of a round that may have to move keeps the roster. When the store is lost, each writes
the same roster to the next one, with the verdict that the round's store was lost, by ``create``: so
it makes no difference who comes first, nor whether the store is in truth the old one.

Only a member that had finished must know that, since it finds the others still at work, who can do
without it. So it ends nothing and waits with them. Its mark in the store tells it.

If others have begun the run anew there, or have brought another round along, a survivor comes as a
newcomer: where a later round stands, the one after its own has no seats any more. It still knows
how many restarts the job has spent.
"""

from __future__ import annotations

from ..api.handler import Verdict, VerdictKind
from ..liveness.spare_watch import Bystander
from ..protocol.keys import RunKeys
from ..protocol.records import History
from ..protocol.wire import read_roster, read_verdict, write_roster, write_verdict
from ..stores.store import Store
from .finish import finish, has_finished


def carry_over(
    store: Store, run: RunKeys, history: History, forming: int, rank: int, bystander: Bystander
) -> Verdict | None:
    """Let a run go on after its last round.

    Args:
        store: The store to go on in.
        run: The run's keys.
        history: The last round, and how it ended for this node.
        forming: The round that is forming there: the next one, if this node was the first to come.
        rank: This node's group rank in the last round.
        bystander: Waits for the others, if they are still at work and this node had finished.

    Returns:
        The verdict that stands there; None if the run that is there is another one.
    """
    keys = run.round(history.roster.round)
    if forming != history.roster.round + 1:
        return None
    roster = read_roster(keys.roster, store.create(keys.roster, write_roster(history.roster)))
    if roster != history.roster:
        return None
    verdict = history.verdict
    if has_finished(store, keys, rank):
        if finish(store, keys, rank, len(roster.members)):
            verdict = Verdict(VerdictKind.DONE, rank)
        else:
            bystander.await_own_verdict(store, keys, roster, rank)
    standing = store.create(keys.verdict, write_verdict(verdict))
    return read_verdict(keys.verdict, standing)
