"""What must hold after every step, by one who sees the whole store and all nodes at once.

The witness takes nobody's word: who sits where it knows from the counter, who takes part from what
nodes do, and all else from the first value that was written. Its own reckoning of places is the
one thing that it shares with the protocol.
"""

import functools

from elrun.rendezvous.api.handler import VerdictKind
from elrun.rendezvous.errors import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousGracefulExitError,
    RendezvousTimeoutError,
)
from elrun.rendezvous.protocol import wire
from elrun.rendezvous.protocol.roster import places_of
from elrun.rendezvous.protocol.round import DOOR

from .facts import Round, Violation
from .keys import parse
from .succession import must_follow

# Each record is read again and again, by several witnesses and after several writes.
read_forming, read_node, read_roster, read_verdict = (
    functools.lru_cache(maxsize=1000)(read)
    for read in (wire.read_forming, wire.read_node, wire.read_roster, wire.read_verdict)
)


class Witness:
    """Sees all, and raises ``Violation``.

    Args:
        limits: Fewest and most nodes of a round.
        stores: What is known of other stores that the run has, if it may have some.
    """

    def __init__(self, limits, stores=None):
        self._limits = limits
        self._stores = stores
        self._rounds = {}
        self._may_err = True
        self._first = 0  # of the rounds whose keys were not freed
        self._writers = {
            "seats": self._ignore,
            "node": self._saw_record,
            "roster": self._saw_roster,
            "success": self._saw_success,
            "verdict": self._saw_verdict,
            "round": self._saw_hint,
        }

    def round(self, number):
        """Return what is known of a round."""
        found = self._rounds.get(number)
        if found is None:
            found = self._rounds[number] = Round(number)
        return found

    @property
    def rounds(self):
        """All that is known."""
        return self._rounds.values()

    @property
    def latest(self):
        """The last round that was sealed with members; None if there is none."""
        sealed = [each for each in self._rounds.values() if each.is_sealed and each.members]
        return max(sealed, key=lambda each: each.number, default=None)

    @property
    def has_ended(self):
        """Whether a verdict says that no round follows."""
        return any(each.verdict and each.verdict.kind.ends_run for each in self._rounds.values())

    def has_sat(self, machine):
        """Return whether a node has ever taken a seat."""
        return any(machine in each.sitting.values() for each in self._rounds.values())

    def expect_the_truth(self):
        """Take it from now on that nothing has gone wrong for longer than nodes are patient."""
        self._may_err = False

    # What happens in the store.

    def saw_write(self, machine, key, before, value):
        """Judge a write."""
        what, number, index = parse(key)
        writer = self._writers.get(what)
        if writer is not None:
            writer(machine, number, index, before, value)

    def saw_freed(self, first):
        """Note that all rounds before one were freed."""
        self._first = first

    def saw_add(self, machine, key, amount, value):
        """Judge an addition to a counter."""
        what, number, _ = parse(key)
        if what != "seats":
            return
        each = self.round(number)
        if amount == DOOR and each.seats_at_the_door is None:
            each.shut_the_door(value - DOOR)
        elif amount == 1 and value <= DOOR:
            # With other stores, a node may lose this one, and come back to it.
            take = each.take_seat if self._stores is None else each.sit
            take(machine, value - 1)

    def _ignore(self, *_):
        pass

    def _saw_record(self, machine, number, seat, before, value):
        each = self.round(number)
        node = each.records[seat] = read_node("", value)
        if not node.is_withdrawn:
            each.sit(machine, seat)
        elif (
            before is not None
            and each.sitting.get(seat) is not machine
            and not read_node("", before).is_withdrawn
        ):
            raise Violation(
                f"{machine} overwrites the record of {each.sitting.get(seat)} on seat {seat} of "
                f"round {number}"
            )

    def _saw_roster(self, machine, number, _, before, value):
        each = self.round(number)
        if before is not None:
            if before != value:
                raise Violation(f"{machine} overwrites the roster of round {number}")
            return
        roster = read_roster("", value)
        elsewhere = self._stores and self._stores.sealed_elsewhere(roster)
        if elsewhere:
            if machine not in elsewhere.members:
                raise Violation(f"{machine} brings round {number} along, and was no member")
            each.carry(roster, elsewhere)
            return
        each.seal(roster)
        past = self._rounds.get(number - 1)
        if number > 0:
            must_follow(each, past, self._stores)
        if not roster.members:
            return
        if not self._limits.min_nodes <= len(roster.members) <= self._limits.max_nodes:
            raise Violation(f"round {number} has {len(roster.members)} of {self._limits} nodes")

    def _saw_verdict(self, machine, number, _, before, value):
        each = self.round(number)
        if before is not None:
            if before != value:
                raise Violation(f"{machine} overwrites the verdict of round {number}")
            return
        verdict = each.verdict = read_verdict("", value)
        may_err = self._may_err or each.is_carried  # it ended long ago, elsewhere
        if verdict.kind is VerdictKind.NODE_LOST and not may_err:
            lost = [rank for rank in verdict.lost if rank != verdict.by]
            living = [each.members[rank] for rank in lost if self._is_there(each, rank)]
            if living:
                raise Violation(f"{machine} gives up {living}, who are well")
        if verdict.kind is VerdictKind.DONE:
            late = [m for rank, m in enumerate(each.members) if rank not in each.finished]
            if late:
                raise Violation(f"round {number} is done, and {late} have not finished")
        if verdict.kind.ends_run:
            after = self._rounds.get(number + 1)
            if after is not None and after.members:
                raise Violation(f"round {number} ends the run, and round {number + 1} stands")
        elif each.roster is None:
            raise Violation(f"round {number} ends before it is sealed")

    def _saw_success(self, _machine, number, rank, _before, _value):
        self.round(number).marked.add(rank)

    def _saw_hint(self, machine, _, __, ___, value):
        number = read_forming("", value)
        before = self._rounds.get(number - 1)
        if self._stores and number <= self._stores.last_round() + 1:
            return
        if number and (before is None or before.roster is None):
            raise Violation(f"{machine} sends newcomers to round {number}, too early")

    def _is_there(self, each, rank):
        """Return whether a member has not died, left its seat, or gone to another store."""
        machine, seat = each.members[rank], each.roster.members[rank].seat
        is_here = self._stores is None or self._stores.is_at(machine, self)
        has_left = seat in each.records and each.records[seat].is_withdrawn
        return is_here and not has_left and not machine.is_dead

    # What the nodes do.

    def saw_start(self, machine, place):
        """Judge a node that starts its workers."""
        each = self.round(place.round)
        if each.roster is None:
            raise Violation(f"{machine} runs in round {place.round}, which is not sealed")
        seats = [seat for seat, who in each.sitting.items() if who is machine]
        if place not in [places_of(each.roster).get(seat) for seat in seats]:
            raise Violation(f"{machine} runs as {place}, and the roster says {each.roster}")
        if each.members[place.group_rank] is not machine:
            raise Violation(f"{machine} runs in place of {each.members[place.group_rank]}")

    def saw_success(self, machine, place):
        """Note that a node's workers have succeeded."""
        self.round(place.round).finished.add(place.group_rank)

    def _has_finished(self, machine):
        """Return whether a node's workers have succeeded in a round that it was a member of."""
        return any(
            each.members[rank] is machine
            for each in self._rounds.values()
            for rank in each.finished
        )

    def saw_told(self, machine, place, verdict):
        """Judge what a node believes that its round has ended by."""
        stands = self.round(place.round).verdict
        is_own = self._stores and machine.has_lost_store and not verdict.lost
        is_late = place.round < self._first and verdict.lost == (place.group_rank,)
        if is_late and machine.is_steady:
            raise Violation(f"{machine} is well, and round {place.round} was freed before it knew")
        if verdict != stands and not is_own and not is_late:
            raise Violation(f"{machine} is told {verdict}, and there stands {stands}")

    def saw_end(self, machine, outcome, *, may_lose):
        """Judge how an agent ends.

        Args:
            machine: Its machine.
            outcome: What it returned or raised.
            may_lose: Whether it has a reason to say that the store is lost.
        """
        match outcome:
            case RendezvousGracefulExitError() | "SUCCEEDED":
                is_done = any(
                    each.verdict and each.verdict.kind is VerdictKind.DONE
                    for each in self._rounds.values()
                )
                if not is_done and not (may_lose and self._has_finished(machine)):
                    raise Violation(f"{machine} ends well, and the run does not")
            case RendezvousClosedError():
                if not self.has_ended:
                    raise Violation(f"{machine} thinks that the run has ended: {outcome}")
            case RendezvousConnectionError():
                if not may_lose:
                    raise Violation(f"{machine} loses a store that is there: {outcome}")
            case RendezvousTimeoutError() | "FAILED":
                pass
            case Exception():
                if type(outcome).__name__ != "SignalException":
                    raise Violation(f"{machine} ends by {outcome!r}")
