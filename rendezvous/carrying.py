"""How a run goes on in a store that knows nothing of it: its survivors bring the last round along.

Every member of a round that may have to move keeps the roster. When the store is lost, each writes
the same roster to the next one, with the verdict that the round's store was lost, by ``create``: so
it makes no difference who comes first, nor whether the store is in truth the old one. Rounds before
it, in which newcomers may have sat down too early, are void.
"""

from __future__ import annotations

from .handler import Verdict
from .keys import RunKeys
from .records import History, Node
from .round import DOOR, void_roster
from .sealing import VOID, places_to_write
from .store import Store
from .wire import read_roster, read_verdict, write_forming, write_roster, write_verdict


def carry_over(store: Store, run: RunKeys, history: History, forming: int, node: Node) -> Verdict:
    """Let a run go on after its last round; return the verdict that stands there.

    Args:
        store: The store to go on in.
        run: The run's keys.
        history: The last round, and how it ended for this node.
        forming: The round that was forming when this node reached the store.
        node: This node.
    """
    last = history.roster.round
    for number in range(forming, last):
        _void(store, run, number, node)
    keys = run.round(last)
    if forming <= last:
        store.add(keys.seats, DOOR)
    store.create(keys.roster, write_roster(history.roster))
    standing = store.create(keys.verdict, write_verdict(history.verdict))
    if forming <= last:
        store.set({run.record: write_forming(last + 1)})
    return read_verdict(keys.verdict, standing)


def _void(store: Store, run: RunKeys, number: int, node: Node) -> None:
    keys = run.round(number)
    taken = store.add(keys.seats, DOOR) % DOOR
    store.create(keys.verdict, write_verdict(VOID))
    void = write_roster(void_roster(number, -1, None, mine=node.limits))
    standing = read_roster(keys.roster, store.create(keys.roster, void))
    places = places_to_write(run, standing, taken)
    del places[run.record]  # the round that forms is a later one
    store.set(places)
