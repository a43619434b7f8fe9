"""How a node leaves: what it tells the others, and for whom it stays."""

from __future__ import annotations

import logging
import threading

from ..api.handler import Placement
from ..errors import RendezvousError
from ..protocol.keys import RunKeys
from ..protocol.round import seats_taken
from ..protocol.wire import read_roster
from ..stores.store import Store
from .join import Joining

log = logging.getLogger(__name__)

# What a thread may take longer than the wait that it makes.
_MARGIN_S = 0.2


class Farewell:
    """The last words of one node.

    Args:
        store: The store.
        run: Its keys.
        place: Where the node stood last, if a round ever took it.
        joining: Its way into a round that has not taken it yet, if it was on one.
    """

    def __init__(
        self, store: Store, run: RunKeys, place: Placement | None, joining: Joining | None
    ) -> None:
        self._store = store
        self._run = run
        self._place = place
        self._joining = joining

    def say(self, patience_s: float, *, stays: bool) -> bool:
        """Leave this node's marks; in a thread, as the store may be stuck.

        Args:
            patience_s: Longest time in seconds that this may take.
            stays: Whether to wait for the marks of all who may still read how the run ended.

        Returns:
            Whether the marks were left, and those that were waited for, if any, came or had
            their time.
        """
        said: list[bool] = []

        def say() -> None:
            try:
                last_round = self._leave_marks()
                marks = self._marks_after(last_round) if stays and last_round >= 0 else []
                if marks:
                    self._store.wait(marks, patience_s)
            except RendezvousError as error:
                log.info("left run %r without a farewell: %s", self._run.run_id, error)
            else:
                said.append(True)

        thread = threading.Thread(target=say, name="elrun-farewell", daemon=True)
        thread.start()
        thread.join(patience_s + _MARGIN_S)
        return bool(said)

    def _leave_marks(self) -> int:
        """Return the number of the last round that this node knows to have ended, or -1."""
        last_round = -1
        if self._joining is not None:
            self._joining.leave()
            last_round = self._joining.round_number - 1
        if self._place is not None:
            keys = self._run.round(self._place.round)
            self._store.set({keys.gone(self._place.group_rank): b"1"})
            last_round = max(last_round, self._place.round)
        return last_round

    def _marks_after(self, last_round: int) -> list[str]:
        """Return the marks of the round's members, and of those who sat down in the next one."""
        keys, next_keys = self._run.round(last_round), self._run.round(last_round + 1)
        (roster,) = self._store.get([keys.roster])
        members = 0 if roster is None else len(read_roster(keys.roster, roster).members)
        seated = seats_taken(self._store.add(next_keys.seats, 0))
        gone = [keys.gone(rank) for rank in range(members)]
        return gone + [next_keys.left(seat) for seat in range(seated)]
