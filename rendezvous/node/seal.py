"""One seat in a forming round: the node waits for its place, and seals the round if it has to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from ..api.handler import Placement, Verdict, VerdictKind
from ..errors import RendezvousStateError, RendezvousTimeoutError
from ..light_typing import NoReturn
from ..liveness.heartbeat import Heartbeat
from ..liveness.peers import PeerMonitor, check_presence
from ..logs import Log
from ..protocol.keys import GONE_BEAT, RunKeys
from ..protocol.phrases import hindrances, options_apart, shortfall
from ..protocol.records import History, Limits, Node, Place
from ..protocol.roster import draw_roster, place_of, places_to_write, unoccupied, void_roster
from ..protocol.round import (
    DOOR,
    Await,
    Decision,
    GiveUp,
    Seal,
    are_too_many_refused,
    decide,
    limits_of_run,
    seats_taken,
)
from ..protocol.timing import Timing
from ..protocol.wire import read_place, write_node, write_verdict
from ..stores.steps import Asking, Steps
from ..stores.store import Will
from .seat_records import SeatRecords, read_history

log = Log(__name__)


def _lost_before(rank: int, host: str) -> Verdict:
    reason = f"{host} left before the round began"
    return Verdict(VerdictKind.NODE_LOST, rank, reason, lost=(rank,))


class Seat:
    """The seat of one node in one round."""

    def __init__(
        self,
        store: Asking,
        run: RunKeys,
        round_number: int,
        number: int,
        node: Node,
        timing: Timing,
        heartbeat: Heartbeat,
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._run = run
        self._keys = run.round(round_number)
        self._round_number = round_number
        self._number = number
        self._node = node
        self._timing = timing
        self._heartbeat = heartbeat
        self._clock = clock
        self._records = SeatRecords(store, run, round_number, node)
        self._has_left = False
        self._history: History | None = None
        self._is_history_known = False

    def take(self) -> Steps[None]:
        """Write the node's record, and beat at this seat.

        If the seat has a record already, take the next one that has none. The counter gives each
        number to one node, unless a process without the job's secret has changed the counter.
        """
        record = write_node(self._node)
        while not self._has_left:
            yield from self._beat()
            standing = yield self._store.create(self._keys.node(self._number), record)
            if standing == record or self._has_left:  # ``leave`` may have written in between
                return
            self._number += 1

    def _beat(self) -> Steps[None]:
        """Beat at the seat, also beyond this node's life: the store writes the last beat."""
        key = self._keys.seat_beat(self._number)
        yield self._store.leave_will(Will({key: GONE_BEAT}, {}, ()))
        self._heartbeat.beat_at(key)

    def _beat_as_member(self, place: Place) -> Steps[None]:
        """Write the first beat of a member that has come to know late of its round.

        The others have watched it since the round was sealed, and that may be a heartbeat ago.
        """
        if isinstance(place, Placement):
            yield self._store.set({self._keys.beat(place.group_rank): b"late"})

    def leave(self) -> Steps[None]:
        """Withdraw the record; if the round has been sealed with this node, end the round."""
        self._has_left = True
        yield self._store.set(unoccupied(self._keys, [self._number], self._node))
        place = yield from self._records.standing_place(self._number)
        if isinstance(place, Placement):
            lost = write_verdict(_lost_before(place.group_rank, self._node.host))
            yield self._store.create(self._keys.verdict, lost)
        # Last: the host of a run that has ended waits for this mark, and then the store is gone.
        yield self._store.set({self._keys.left(self._number): b"1"})

    def leave_over(self, store: Asking) -> Steps[None]:
        """Leave over another connection, if it leads to the store that has this seat."""
        (standing,) = yield store.get([self._keys.node(self._number)])
        if standing == write_node(self._node):
            self._store = store
            self._records = SeatRecords(store, self._run, self._round_number, self._node)
            yield from self.leave()

    def await_place(self, history: History | None) -> Steps[Place]:
        """Block until the round is sealed; seal it if this seat has to.

        Args:
            history: The round before; None: there was none, or it is to be read if this node may
                have to seal.

        Raises:
            RendezvousTimeoutError: Too few nodes came in time.
            RendezvousStateError: The other nodes have other limits.
        """
        self._history, self._is_history_known = history, history is not None
        deadline = self._clock() + self._timing.join_timeout_s
        if self._number > 0:
            place = yield from self._wait_as_deputy(deadline)
            if place is not None:
                return place
        history = yield from self._read_history()
        return (yield from self._wait_as_sealer(history, deadline))

    def _read_history(self) -> Steps[History | None]:
        if not self._is_history_known:
            self._history = yield from read_history(self._store, self._run, self._round_number)
            self._is_history_known = True
        return self._history

    def _wait_as_sealer(self, history: History | None, deadline: float) -> Steps[Place]:
        """Wait as the sealer: every record that can change the decision wakes this node."""
        seated = {self._number: self._node}
        if self._number > 0:
            seated |= yield from self._records.read_others(self._number, seated)
            limits = limits_of_run(seated, history) or self._node.limits
            if not self._node.limits.outlast(limits):  # the first node's silence says nothing
                yield from self._refuse(limits)
        last_joined_at = self._clock()
        is_current = True
        while True:
            present = check_presence(
                self._heartbeat, self._run, self._round_number, self._number, seated, history
            )
            match self._decide(present.seated, present.history, last_joined_at, deadline):
                case Seal() if is_current:
                    return (yield from self._seal(present.seated, present.history))
                case Seal():  # a node may have left since its record was read
                    seated |= yield from self._records.read(seated)
                    is_current = True
                case GiveUp():
                    return (yield from self._give_up(present.seated, present.history))
                case Await(seats, until):
                    is_current = len(seated) == 1
                    free = itertools.islice(
                        (n for n in itertools.count() if n not in seated), seats
                    )
                    # The wait ends when ALL these records exist; wake each heartbeat, or at least
                    # each patience, to notice single ones and to watch their beats.
                    timing = self._timing
                    wake_s = timing.heartbeat_s if present.may_change_soon else timing.patience_s
                    found = yield from self._records.wait_for(
                        free, min(wake_s, until - self._clock())
                    )
                    if len(found) < seats or any(node.is_withdrawn for node in found.values()):
                        # A deputy may have sealed the round, or a node may have ended the run.
                        place = yield from self._records.standing_place(self._number)
                        if place is not None:
                            yield from self._beat_as_member(place)
                            return place
                        found |= yield from self._records.read_others(self._number, seated)
                    seated |= found
                    last_joined_at = self._clock() if found else last_joined_at

    def _wait_as_deputy(self, deadline: float) -> Steps[Place | None]:
        """Wait as a deputy: for the own place, with a check now and then whether to seal.

        Returns:
            The place; None if all earlier seats are silent, so that this node is the sealer now.
        """
        interval_s = self._timing.deputy_s * self._number
        taken, changed_at = 0, self._clock()
        earlier = PeerMonitor(
            self._heartbeat, (self._keys.seat_beat(n) for n in reversed(range(self._number)))
        )
        while True:
            left_s = deadline - self._clock()
            pause_s = interval_s if left_s <= 0 else min(interval_s, left_s)
            place = yield from self._await_own_place(pause_s, earlier)
            if place is not None:
                return place
            if earlier.are_all_silent():
                log.info("%s: all earlier seats are silent", self._keys.prefix)
                return None
            last_taken = taken
            taken = yield self._store.add(self._keys.seats, 0)
            if taken != last_taken:
                changed_at = self._clock()
            history = yield from self._read_history()
            seated = yield from self._records.read(range(seats_taken(taken, self._number + 1)))
            limits = limits_of_run(seated, history)
            if limits is not None and not limits.suit(self._node.limits):
                yield from self._refuse(limits)
            decision = self._decide(seated, history, changed_at, deadline)
            if isinstance(decision, Seal) or taken >= DOOR:
                log.info("%s: sealing in place of the first node", self._keys.prefix)
                return (yield from self._seal(seated, history))
            if isinstance(decision, GiveUp):
                return (yield from self._give_up(seated, history))

    def _await_own_place(self, pause_s: float, earlier: PeerMonitor) -> Steps[Place | None]:
        """Return this seat's place; None after the pause, or when all earlier seats are silent."""
        until = self._clock() + pause_s
        while (left_s := until - self._clock()) > 0 and not earlier.are_all_silent():
            found = yield self._store.wait(
                [self._keys.place(self._number)], min(left_s, self._timing.patience_s)
            )
            if found is not None:
                return read_place(self._keys.place(self._number), found[0])
        return (yield from self._records.standing_place(self._number))

    def _decide(
        self,
        seated: Mapping[int, Node],
        history: History | None,
        last_joined_at: float,
        deadline: float,
    ) -> Decision:
        return decide(
            seated,
            history,
            mine=self._node.limits,
            now=self._clock(),
            last_joined_at=last_joined_at,
            deadline=deadline,
            last_call_s=self._timing.last_call_s,
            survivor_s=self._timing.survivor_s,
        )

    def _seal(
        self,
        seated: Mapping[int, Node],
        history: History | None,
        aborted: Verdict | None = None,
    ) -> Steps[Place]:
        """Seal the round; without members if it ends by a verdict before it has begun."""
        if aborted is not None:  # first: a node that comes later would begin another round
            yield self._store.create(self._keys.verdict, write_verdict(aborted))
        count = yield self._store.add(self._keys.seats, DOOR)
        taken = seats_taken(count, max(seated) + 1)
        # With a second sealer: use its roster if it stands, else its members look silent.
        if count >= 2 * DOOR:
            place = yield from self._records.standing_place(self._number)
            if place is not None:
                return place
        late = [number for number in range(taken) if number not in seated]
        if late and aborted is None:
            found = yield from self._records.wait_for(late, self._timing.straggler_s)
            seated = {**seated, **found}
        number, limits = self._round_number, self._node.limits
        if aborted is not None:
            drawn = void_roster(number, self._number, history, mine=limits)
        else:
            drawn = draw_roster(number, self._number, seated, history, mine=limits)
        standing = yield from self._records.publish(drawn)
        if standing.sealed_by == self._number:
            # No node can take the free seats any more: their records end the store's wait for them.
            awaited = (n for n in self._records.awaited if n >= taken)
            free = unoccupied(self._keys, awaited, self._node)
            yield self._store.set({**places_to_write(self._run, standing, taken), **free})
        return place_of(standing, self._number)

    def _refuse(self, limits: Limits) -> Steps[NoReturn]:
        yield from self.leave()
        raise limits_error(self._run, limits, self._node.limits)

    def _give_up(self, seated: Mapping[int, Node], history: History | None) -> Steps[Place]:
        place = yield from self._records.standing_place(self._number)
        if place is not None:
            return place
        limits = limits_of_run(seated, history) or self._node.limits
        if are_too_many_refused(seated, history, limits):
            aborted = Verdict(VerdictKind.ABORTED, reason=hindrances(seated, limits))
            return (yield from self._seal(seated, history, aborted))
        left = yield from self._records.that_left(seated)
        yield from self.leave()
        mine, within_s = self._node.limits, self._timing.join_timeout_s
        reason = shortfall(seated, history, mine=mine, within_s=within_s, left=left)
        raise RendezvousTimeoutError(f"run {self._run.run_id!r}: {reason}")


def limits_error(run: RunKeys, limits: Limits, mine: Limits) -> RendezvousStateError:
    """Return the error of a node that has other limits than the run."""
    theirs, ours = options_apart(limits, mine)
    return RendezvousStateError(
        f"run {run.run_id!r} has {theirs}, and this node has {ours}: give the same on every node, "
        "or another --rdzv-id to another job"
    )
