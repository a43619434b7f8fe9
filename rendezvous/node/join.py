"""One node's way into a round: it takes seats, round after round, until a round takes it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable

from ..api.handler import Placement, Verdict, VerdictKind
from ..errors import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousError,
    RendezvousGracefulExitError,
    RendezvousRoundOverError,
    RendezvousStateError,
)
from ..liveness.heartbeat import Heartbeat
from ..liveness.round_watch import SpareWatch
from ..logs import Log
from ..protocol import wire
from ..protocol.keys import RoundKeys, RunKeys
from ..protocol.phrases import contradictions, name_hosts, progress
from ..protocol.records import History, Node, Roster
from ..protocol.roster import places_to_write, unoccupied, void_roster
from ..protocol.round import DOOR, has_room, present, seats_taken
from ..protocol.timing import Timing, seconds_in_words
from ..stores.steps import Asking, Steps
from .finish import has_any_finished
from .round_state import Phase, RoundState
from .seal import Seat, limits_error
from .seat_records import VOID_VERDICT, read_history

log = Log(__name__)

_UNSEALED_INTERVALS = 4
_MOST_EMPTIED = 1000
# With more seats than this, a waiting node reads the counter only: all nodes describe their waits
# at the same time.
_MOST_READ = 64


class Join:
    """Takes seats, round after round, until a round takes the node.

    ``enter`` is carried out once; the other procedures meanwhile.

    Args:
        number: The round to try first.
    """

    def __init__(
        self,
        store: Asking,
        run: RunKeys,
        node: Node,
        number: int,
        timing: Timing,
        heartbeat: Heartbeat,
        spare_watch: SpareWatch,
        clock: Callable[[], float],
        state: RoundState,
    ) -> None:
        self._store = store
        self._run = run
        self._node = node
        self._timing = timing
        self._heartbeat = heartbeat
        self._spare_watch = spare_watch
        self._clock = clock
        self._state = state
        self._seats: list[Seat] = []
        self._has_left = False
        self.round_number = number
        """The round in which this node took its last seat."""

    def enter(self) -> Steps[Placement]:
        """Block until this node is a member of a sealed round."""
        number = self.round_number
        while True:
            with contextlib.suppress(RendezvousRoundOverError):  # as late as that: the next one
                place = yield from self._enter_round(number)
                if place is not None:
                    return place
            number += 1

    def describe_wait(self) -> Steps[str]:
        """Return which nodes are there by now, as a sentence; "" if this node waits for none."""
        if not self._seats or self._node.limits.max_nodes == 1:
            return ""
        if self._state.phase is Phase.SPARE:
            return "a round runs without this node, which waits as a spare"
        keys, limits = self._run.round(self.round_number), self._node.limits
        taken = seats_taken((yield self._store.add(keys.seats, 0)))
        if taken > _MOST_READ:
            return progress(taken, {}, limits)
        names = [keys.node(number) for number in range(taken)]
        values = yield self._store.get(names)
        records = enumerate(zip(names, values, strict=True))
        seated: dict[int, Node] = {}
        for n, (name, data) in records:
            with contextlib.suppress(RendezvousStateError):  # the sealer reports a bad record
                if data is not None:
                    seated[n] = wire.read_node(name, data)
        there = present(seated, limits)
        history = yield from read_history(self._store, self._run, self.round_number)
        last_call_s = self._timing.last_call_s
        sentence = progress(len(there), there, limits, history, last_call_s)
        return sentence + contradictions(seated, limits)

    def leave(self) -> Steps[None]:
        """Give up every seat, and take no other; ``enter`` ends with an error."""
        self._has_left = True
        for seat in self._seats:  # one more may come meanwhile: the counter was asked for it before
            yield from seat.leave()

    def leave_over(self, store: Asking) -> Steps[None]:
        """Give up every seat over another connection, if that leads to the same store."""
        for seat in list(self._seats):
            yield from seat.leave_over(store)

    def _enter_round(self, number: int) -> Steps[Placement | None]:
        if self._has_left:
            raise self._left()
        taken = yield self._store.add(self._run.round(number).seats, 1)
        if taken > DOOR:
            return None
        seat = Seat(
            self._store,
            self._run,
            number,
            max(0, seats_taken(taken) - 1),
            self._node,
            self._timing,
            self._heartbeat,
            self._clock,
        )
        origin = self._node.origin
        is_survivor = origin is not None and origin.round == number - 1
        is_newcomer = number > 0 and not is_survivor
        self._state.turn_to(Phase.SPARE if is_newcomer else Phase.SEATED)
        self._seats.append(seat)
        self.round_number = number
        if self._has_left:
            yield from seat.leave()
            raise self._left()
        yield from seat.take()
        history = None
        if is_newcomer:
            history = yield from self._stand_by(number, seat)
            self._state.turn_to(Phase.SEATED)
        place = yield from seat.await_place(history)
        return place if isinstance(place, Placement) else None

    def _left(self) -> RendezvousConnectionError:
        return RendezvousConnectionError(
            f"this node has given up its seats in run {self._run.run_id!r}"
        )

    def _stand_by(self, number: int, seat: Seat) -> Steps[History]:
        """Wait, as a newcomer, for the end of the round before; end it if it has room."""
        before = self._run.round(number - 1)
        roster_data, verdict_data = yield self._store.get([before.roster, before.verdict])
        if roster_data is None:
            roster_data = yield from self._await_roster(number - 1)
        roster = wire.read_roster(before.roster, roster_data)
        if roster.members and not roster.limits.suit(self._node.limits):
            yield from seat.leave()
            raise limits_error(self._run, roster.limits, self._node.limits)
        # With a second seat, this node has waited before: no round took it, and the run has ended.
        took_part = self._state.place is not None  # in an earlier round; it may be lost since
        has_waited = verdict_data is None or len(self._seats) > 1 or took_part
        if verdict_data is None:
            wanted = yield from self._verdict_for(roster, before)
            if wanted is None:
                verdict_data = yield from self._spare_watch.await_verdict(
                    self._store, before, roster
                )
            else:
                verdict_data = yield self._store.create(before.verdict, wire.write_verdict(wanted))
        verdict = wire.read_verdict(before.verdict, verdict_data)
        if verdict.kind.ends_run:
            raise ended(self._run, verdict, self._timing, has_waited=has_waited)
        return History(roster, verdict)

    def _verdict_for(self, roster: Roster, keys: RoundKeys) -> Steps[Verdict | None]:
        """Return the verdict by which this newcomer ends a running round; None: it waits."""
        if not roster.members:
            return VOID_VERDICT
        if has_room(roster) and not (yield from has_any_finished(self._store, keys, roster)):
            return Verdict(VerdictKind.NODE_WAITING, reason=f"{self._node.host} is waiting to join")
        if len(self._seats) == 1:  # warned once, however many rounds it waits beside
            log.warning(
                "run %r needs no further node now (%s): this one waits as a spare; if it is for "
                "another job, give that another --rdzv-id",
                self._run.run_id,
                name_hosts(member.node for member in roster.members),
            )
        return None

    def _await_roster(self, number: int) -> Steps[bytes]:
        """Return the roster of a closed round; void the round if no node is left to seal it."""
        key = self._run.round(number).roster
        values: list[bytes] | None = yield self._store.wait(
            [key], _UNSEALED_INTERVALS * self._timing.deputy_s
        )
        if values is not None:
            return values[0]
        history = yield from read_history(self._store, self._run, number)
        void = void_roster(number, -1, history, mine=self._node.limits)
        standing: bytes = yield self._store.create(key, wire.write_roster(void))
        return standing


def read_forming_round(store: Asking, run: RunKeys) -> Steps[int]:
    """Return the number of the round that a newcomer should try first."""
    (record,) = yield store.get([run.record])
    return 0 if record is None else wire.read_forming(run.record, record)


def abort_run(store: Asking, run: RunKeys, node: Node, verdict: Verdict) -> Steps[None]:
    """End a run, whether a round is running or forming."""
    aborted = wire.write_verdict(verdict)
    # The round before the forming one may still be running: then its verdict ends the run.
    forming = yield from read_forming_round(store, run)
    for number in itertools.count(max(0, forming - 1)):
        key = run.round(number).verdict
        try:
            standing = yield store.create(key, aborted)
        except RendezvousRoundOverError:  # the run's record lagged far behind
            continue
        if wire.read_verdict(key, standing).kind.ends_run:
            yield from _void(store, run, number, node)
            return


def _void(store: Asking, run: RunKeys, number: int, node: Node) -> Steps[None]:
    """Seal a round without members, if it isn't sealed."""
    keys = run.round(number)
    taken = seats_taken((yield store.add(keys.seats, DOOR)))
    history = yield from read_history(store, run, number)
    void = void_roster(number, -1, history, mine=node.limits)
    data = yield store.create(keys.roster, wire.write_roster(void))
    standing = wire.read_roster(keys.roster, data)
    if not standing.members:
        # The sealer waits for the records of free seats, of min_nodes at most. Records that say
        # "withdrawn" end its wait at once; where the seats are very many, its time-out does.
        awaited = min(node.limits.min_nodes, _MOST_EMPTIED) if taken else 0
        free = unoccupied(keys, range(taken, taken + awaited), node)
        yield store.set({**free, **places_to_write(run, standing, taken)})


def has_ended(store: Asking, run: RunKeys) -> Steps[bool]:
    """Return whether a run has a verdict that no round follows."""
    forming = yield from read_forming_round(store, run)
    keys = [run.round(number).verdict for number in (forming - 1, forming) if number >= 0]
    values = yield store.get(keys)
    return any(
        data is not None and wire.read_verdict(key, data).kind.ends_run
        for key, data in zip(keys, values, strict=True)
    )


def ended(run: RunKeys, verdict: Verdict, timing: Timing, *, has_waited: bool) -> RendezvousError:
    """Return the error of a node that comes to a run which has ended.

    Args:
        has_waited: Whether this node took part, or waited as a spare, before the run ended.
    """
    if has_waited and verdict.kind is VerdictKind.DONE:
        return RendezvousGracefulExitError(
            f"run {run.run_id!r} has ended well, and did not need this node"
        )
    reason = f": {verdict.reason}" if verdict.reason else ""
    sentence = f"run {run.run_id!r} has ended ({verdict.kind.value}{reason})"
    if has_waited:
        return RendezvousClosedError(sentence, verdict.reason, verdict.details)
    # A node that is late for this run can't be told apart from a node that starts it again.
    when = f"{seconds_in_words(timing.afterlife_s)} s after" if timing.afterlife_s else "once"
    return RendezvousClosedError(
        f"{sentence}; if it is to run again, give it another --rdzv-id, or start it {when} "
        "its last node has left"
    )
