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


class Departure:
    """Writes the marks of one node that leaves.

    Args:
        place: The node's place in its latest round; None if no round ever took it.
        join: The node's way into a round that has not taken it yet; None if it was on none.
    """

    def __init__(
        self, store: Asking, run: RunKeys, place: Placement | None, join: Join | None
    ) -> None:
        self._store = store
        self._run = run
        self._place = place
        self._join = join

    def announce(self, timeout_s: float, *, stays: bool) -> Steps[bool]:
        """Write this node's marks.

        Args:
            timeout_s: The most seconds to wait for the marks of others.
            stays: Whether to wait for the marks of all nodes that may still read how the run ended.

        Returns:
            Whether the marks were written, and, with ``stays``, the other marks came or their time
            was over.
        """
        try:
            last_round = yield from self._write_marks()
            marks = (yield from self._marks_after(last_round)) if stays else []
            if marks:
                yield self._store.wait(marks, timeout_s)
        except RendezvousError as error:
            log.info("left run %r without a mark: %s", self._run.run_id, error)
            return False
        return True

    def _write_marks(self) -> Steps[int]:
        """Return the number of the last round that this node knows to have ended, or -1."""
        last_round = -1
        if self._join is not None:
            yield from self._join.leave()
            last_round = self._join.round_number - 1
        if self._place is not None:
            keys = self._run.round(self._place.round)
            yield self._store.set({keys.gone(self._place.group_rank): b"1"})
            last_round = max(last_round, self._place.round)
        return last_round

    def _marks_after(self, last_round: int) -> Steps[list[str]]:
        """Return the mark keys of the round's members, and of the next round's seats.

        Round -1, before the first one, has no members. A round that was sealed without members, as
        the end of a run does, has seats whose nodes may not have read that.
        """
        marks = yield from self._marks_of_seats(last_round + 1)
        for number in range(last_round, -1, -1):
            keys = self._run.round(number)
            (data,) = yield self._store.get([keys.roster])
            if data is None:
                break
            if members := read_roster(keys.roster, data).members:
                return marks + [keys.gone(rank) for rank in range(len(members))]
            marks += yield from self._marks_of_seats(number)
        return marks

    def _marks_of_seats(self, number: int) -> Steps[list[str]]:
        keys = self._run.round(number)
        taken = seats_taken((yield self._store.add(keys.seats, 0)))
        return [keys.left(seat) for seat in range(taken)]
