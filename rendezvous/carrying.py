"""How a run goes on in a store that knows nothing of it: its survivors bring the last round along.

Every member of a round that may have to move keeps the roster. When the store is lost, each writes
the same roster to the next one, with the verdict that the round's store was lost, by ``create``: so
it makes no difference who comes first, nor whether the store is in truth the old one.

If others have begun the run anew there, or have brought another round along, a survivor comes as a
newcomer: where a later round stands, the one after its own has no seats any more. It still knows
how many restarts the job has spent.
"""

from __future__ import annotations

from .handler import Verdict
from .keys import RunKeys
from .records import History
from .store import Store
from .wire import read_roster, read_verdict, write_roster, write_verdict


def carry_over(store: Store, run: RunKeys, history: History, forming: int) -> Verdict | None:
    """Let a run go on after its last round.

    Args:
        store: The store to go on in.
        run: The run's keys.
        history: The last round, and how it ended for this node.
        forming: The round that is forming there: the next one, if this node was the first to come.

    Returns:
        The verdict that stands there; None if the run that is there is another one.
    """
    keys = run.round(history.roster.round)
    if forming != history.roster.round + 1:
        return None
    roster = read_roster(keys.roster, store.create(keys.roster, write_roster(history.roster)))
    if roster != history.roster:
        return None
    standing = store.create(keys.verdict, write_verdict(history.verdict))
    return read_verdict(keys.verdict, standing)
