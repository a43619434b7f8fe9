"""How a node leaves a run: the marks that it writes, and the marks of others that it waits for."""

from __future__ import annotations

from ..api.handler import Placement
from ..errors import RendezvousError
from ..logs import Log
from ..protocol.keys import RunKeys
from ..protocol.round import seats_taken
from ..protocol.wire import read_roster
from ..stores.steps import Asking, Steps
from .join import Join

log = Log(__name__)


def leave_run(
    store: Asking,
    run: RunKeys,
    place: Placement | None,
    join: Join | None,
    timeout_s: float,
    *,
    stays: bool,
) -> Steps[bool]:
    """Write the marks of a node that leaves; return whether that succeeded.

    Args:
        place: The node's place in its latest round; None if no round ever took it.
        join: The node's way into a round that has not taken it yet; None if it was on none.
        timeout_s: The most seconds to wait for the marks of others.
        stays: Whether to wait for the marks of all nodes that may still read how the run ended.
    """
    try:
        last_round = yield from _write_marks(store, run, place, join)
        marks = (yield from _marks_after(store, run, last_round)) if stays else []
        if marks:
            yield store.wait(marks, timeout_s)
    except RendezvousError as error:
        log.info("left run %r without a mark: %s", run.run_id, error)
        return False
    return True


def _write_marks(
    store: Asking, run: RunKeys, place: Placement | None, join: Join | None
) -> Steps[int]:
    """Return the number of the last round that this node knows to have ended, or -1."""
    last_round = -1
    if join is not None:
        yield from join.leave()
        last_round = join.round_number - 1
    if place is not None:
        keys = run.round(place.round)
        yield store.set({keys.gone(place.group_rank): b"1"})
        last_round = max(last_round, place.round)
    return last_round


def _marks_after(store: Asking, run: RunKeys, last_round: int) -> Steps[list[str]]:
    """Return the mark keys of the round's members, and of the next round's seats.

    Round -1, before the first one, has no members. A round that was sealed without members, as
    the end of a run does, has seats whose nodes may not have read that.
    """
    marks = yield from _marks_of_seats(store, run, last_round + 1)
    for number in range(last_round, -1, -1):
        keys = run.round(number)
        (data,) = yield store.get([keys.roster])
        if data is None:
            break
        if members := read_roster(keys.roster, data).members:
            return marks + [keys.gone(rank) for rank in range(len(members))]
        marks += yield from _marks_of_seats(store, run, number)
    return marks


def _marks_of_seats(store: Asking, run: RunKeys, number: int) -> Steps[list[str]]:
    keys = run.round(number)
    taken = seats_taken((yield store.add(keys.seats, 0)))
    return [keys.left(seat) for seat in range(taken)]
