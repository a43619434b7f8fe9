"""The records of one forming round: those of its nodes, and the place of a seat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..api.handler import Verdict, VerdictKind
from ..errors import RendezvousStateError
from ..logs import Log
from ..protocol import wire
from ..protocol.differences import differences
from ..protocol.keys import RunKeys
from ..protocol.records import History, Node, Place, Roster
from ..protocol.roster import place_of, places_to_write
from ..protocol.round import seats_taken
from ..stores.steps import Asking, Steps

log = Log(__name__)

VOID_VERDICT = Verdict(
    VerdictKind.NODE_LOST, reason="the nodes that formed the round left before it began"
)


def read_history(store: Asking, run: RunKeys, number: int) -> Steps[History | None]:
    """Return the round before a given one, which has ended.

    None if there was none, or if this store has none: the nodes that were to copy it have died.
    """
    keys = run.round(number - 1)
    if number == 0:
        return None
    roster, verdict = yield store.get([keys.roster, keys.verdict])
    if roster is None or verdict is None:
        return None
    return History(wire.read_roster(keys.roster, roster), wire.read_verdict(keys.verdict, verdict))


class SeatRecords:
    """Reads the records of one round, and remembers which seats were waited for.

    Args:
        mine: The record of the node that reads.
    """

    def __init__(self, store: Asking, run: RunKeys, round_number: int, mine: Node) -> None:
        self._store = store
        self._run = run
        self._keys = run.round(round_number)
        self._mine = mine
        self._refused: set[int] = set()
        self.awaited: set[int] = set()
        """The seats that were waited for."""

    def wait_for(self, numbers: Iterable[int], timeout_s: float) -> Steps[dict[int, Node]]:
        """Return the records of these seats once all exist; after the time-out, those that do."""
        wanted = list(numbers)
        keys = [self._keys.node(number) for number in wanted]
        self.awaited.update(wanted)
        values = yield self._store.wait(keys, max(0.0, timeout_s))
        if values is None:
            values = yield self._store.get(keys)
        return self._parse(wanted, values)

    def read(self, numbers: Iterable[int]) -> Steps[dict[int, Node]]:
        """Return those records of these seats that exist."""
        wanted = list(numbers)
        values = yield self._store.get([self._keys.node(n) for n in wanted])
        return self._parse(wanted, values)

    def read_others(self, mine: int, seated: Mapping[int, Node]) -> Steps[dict[int, Node]]:
        """Return the records of all seats that are not known yet, also of those after an empty one.

        A seat is empty where the node that took it has died before it wrote its record.

        Args:
            mine: The seat of the node that reads.
        """
        taken = seats_taken((yield self._store.add(self._keys.seats, 0)), mine + 1)
        return (yield from self.read(number for number in range(taken) if number not in seated))

    def that_left(self, seated: Mapping[int, Node]) -> Steps[list[Node]]:
        """Return the nodes of withdrawn records that took a seat and have left it."""
        withdrawn = [seat for seat, node in seated.items() if node.is_withdrawn]
        if not withdrawn:
            return []
        marks = yield self._store.get([self._keys.left(seat) for seat in withdrawn])
        return [seated[n] for n, mark in zip(withdrawn, marks, strict=True) if mark is not None]

    def standing_place(self, seat: int) -> Steps[Place | None]:
        """Return a seat's place if the round is sealed; write the places if they are missing."""
        place, roster = yield self._store.get([self._keys.place(seat), self._keys.roster])
        if place is not None:
            return wire.read_place(self._keys.place(seat), place)
        if roster is None:
            return None
        standing = wire.read_roster(self._keys.roster, roster)
        known = max((member.seat for member in standing.members), default=seat) + 1
        taken = seats_taken((yield self._store.add(self._keys.seats, 0)), known)
        yield self._store.set(places_to_write(self._run, standing, taken))
        return place_of(standing, seat)

    def publish(self, drawn: Roster) -> Steps[Roster]:
        """Write a roster; return the one that stands, which another sealer may have written."""
        drawn = drawn._replace(notice=differences(drawn))
        mine = wire.write_roster(drawn)
        stands = yield self._store.create(self._keys.roster, mine)
        standing = drawn if stands == mine else wire.read_roster(self._keys.roster, stands)
        if not standing.members:
            yield self._store.create(self._keys.verdict, wire.write_verdict(VOID_VERDICT))
        return standing

    def _parse(self, numbers: Iterable[int], values: Iterable[bytes | None]) -> dict[int, Node]:
        pairs = zip(numbers, values, strict=True)
        return {n: self._parse_one(n, data) for n, data in pairs if data is not None}

    def _parse_one(self, number: int, data: bytes) -> Node:
        """Return the node that a record describes; a refused record counts as withdrawn."""
        try:
            return wire.read_node(self._keys.node(number), data)
        except RendezvousStateError as error:
            if number not in self._refused:
                self._refused.add(number)
                log.warning("a node is not taken, as its record is refused: %s", error)
            return self._mine._replace(origin=None, is_withdrawn=True)
