"""What the agent asks of its node's rendezvous, each question as a procedure."""

from __future__ import annotations

from collections.abc import Sequence

from ..api.handler import Placement, Verdict, VerdictKind
from ..errors import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousError,
    RendezvousRoundOverError,
    RendezvousStateError,
)
from ..liveness.heartbeat import Heartbeat
from ..liveness.peers import await_signs_of_life
from ..liveness.round_watch import watch_members, will_of_member
from ..logs import Log
from ..protocol.keys import RoundKeys, RunKeys
from ..protocol.records import Limits
from ..protocol.round import seats_taken
from ..protocol.timing import Timing
from ..protocol.wire import read_verdict, write_verdict
from ..stores.steps import PREPARE, Asking, Request, Steps
from .decline import MAX_REASON_CHARS, decline
from .finish import finish
from .join import abort_run, has_ended
from .leave import leave_run
from .machine import Machine
from .next_round import DescribeNode, NextRound
from .notices import Hear, hear_notices, tell_of_spare
from .round_state import Phase, RoundState
from .store_session import StoreSession

log = Log(__name__)


class RoundMachine(Machine):
    """The machine of one node; the methods that return steps are named as ``RoundHandler``'s.

    Args:
        rank_word: What people call the rank of a node.
    """

    def __init__(
        self,
        run: RunKeys,
        limits: Limits,
        timing: Timing,
        host: str,
        describe_node: DescribeNode,
        rank_word: str = "group rank",
    ) -> None:
        super().__init__()
        self._run = run
        self._limits = limits
        self._timing = timing
        self._host = host
        self._rank_word = rank_word
        self._describe_node = describe_node
        self._topics: dict[str, Hear] = {}
        self.session = StoreSession(run, lambda: self.state.has_left)
        self.heartbeat = Heartbeat(self.session.store, timing, self._clock, self._spawn)
        self.state = RoundState(self.heartbeat, lambda: self.session.can_move, self._wake)
        self.next = NextRound(
            run,
            self.session,
            self.state,
            self.heartbeat,
            timing,
            describe_node,
            self._clock,
            self._spawn,
        )

    def listen(self, topics: Sequence[str], hear: Hear) -> None:
        """Hear the notices of these topics in rounds to come."""
        self._topics |= dict.fromkeys(topics, hear)

    def next_round(self) -> Steps[tuple[int, Placement]]:
        """Take part in the next round; return the store and the node's place."""
        if self.state.has_ended or self.state.has_left:
            raise RendezvousClosedError(f"run {self._run.run_id!r} has ended for this node")
        before = self.state.place
        if before is not None and self.state.verdict is None:
            yield from self.conclude(
                Verdict(VerdictKind.NODE_WAITING, before.group_rank, "a node asks for a new round")
            )
        try:
            store, place = yield from self.next.enter(before)
        except RendezvousError:
            self.state.turn_to(Phase.IDLE)
            raise
        keys = self._run.round(place.round)
        self.next.begin(place)
        name = f"{self._host} ({self._rank_word} {place.group_rank})"
        yield store.leave_will(will_of_member(keys, place.group_rank, name))
        watch_members(self.heartbeat, store, keys, place, self._timing, self.conclude)
        self._spawn(self._await_verdict(store, place, keys))
        is_full = 1 < place.group_world_size == self._limits.max_nodes
        if place.group_rank == 0 and is_full and not self.state.spare_is_told_of:
            self._spawn(tell_of_spare(store, self._run, self.state, place))
        for topic, hear in self._topics.items():
            self._spawn(hear_notices(store, keys, self.state, place, topic, hear))
        return store.store, place

    def describe_wait(self) -> Steps[str]:
        # A wait for the store is described by the code that tries to reach it.
        join = self.next.join
        return "" if join is None else (yield from join.describe_wait())

    def decline(self, reason: str) -> Steps[bool]:
        is_in_round = self.state.place is not None and self.state.verdict_or_error() is None
        if is_in_round or self.state.has_left or not self._timing.refusal_s:
            return False
        connection = yield from self.session.open()
        yield Request(None, PREPARE, ())
        node = self._describe_node(connection.address, 1, None, 0)._replace(
            is_withdrawn=True,
            refusal=reason[:MAX_REASON_CHARS],
            is_host=connection.is_host and connection.at is None,
        )
        return (
            yield from decline(
                Asking(connection.store),
                self._run,
                connection.forming,
                node,
                self._timing.refusal_s,
                self._clock,
            )
        )

    def conclude(self, verdict: Verdict) -> Steps[Verdict]:
        store, place, keys = self._current_round()
        try:
            data = yield store.create(keys.verdict, write_verdict(verdict))
        except RendezvousRoundOverError as error:
            return self._settle_without_verdict(place, error)
        except RendezvousConnectionError as error:
            moved = self.state.lose_store(place, error)
            if moved is None:
                raise
            return moved
        standing = read_verdict(keys.verdict, data)
        self.state.settle(place, standing)
        return standing

    def await_signs_of_life(self) -> Steps[None]:
        store, place, keys = self._current_round()
        if place.group_world_size > self._limits.min_nodes:
            yield from await_signs_of_life(store, keys, place, self._timing, self._clock)

    def arrive(self) -> Steps[None]:
        store, place, keys = self._current_round()
        try:
            are_all_done = yield from finish(store, keys, place.group_rank, place.group_world_size)
        except RendezvousConnectionError as error:
            if self.state.lose_store(place, error) is None:
                raise
            return
        if are_all_done:
            yield from self.conclude(Verdict(VerdictKind.DONE, place.group_rank))

    def publish(self, outcome: bytes) -> Steps[None]:
        store, place, keys = self._current_round()
        yield store.set({keys.outcome(place.group_rank): outcome})

    def collect(self, timeout_s: float) -> Steps[Sequence[bytes | None]]:
        store, place, keys = self._current_round()
        names = [keys.outcome(rank) for rank in range(place.group_world_size)]
        found: Sequence[bytes | None] | None = yield store.wait(names, timeout_s)
        if found is None:
            found = yield store.get(names)
        return found or []

    def settle_cause(self, cause: bytes) -> Steps[bytes]:
        store, _, keys = self._current_round()
        standing: bytes = yield store.create(keys.cause, cause)
        return standing

    def await_cause(self, timeout_s: float) -> Steps[bytes | None]:
        store, _, keys = self._current_round()
        found: list[bytes] | None = yield store.wait([keys.cause], timeout_s)
        return None if found is None else found[0]

    def announce(self, topic: str, number: int, notice: bytes) -> Steps[bytes]:
        store, _, keys = self._current_round()
        standing: bytes = yield store.create(keys.notice(topic, number), notice)
        return standing

    def is_closed(self) -> Steps[bool]:
        if self.state.has_ended or self.session.connection is None:
            return self.state.has_ended
        return (yield from has_ended(self.session.store(), self._run))

    def set_closed(self) -> Steps[None]:
        rank = -1 if self.state.place is None else self.state.place.group_rank
        reason = f"{self._host} ended the run"
        return self.abort(Verdict(VerdictKind.ABORTED, rank, reason))

    def abort(self, aborted: Verdict) -> Steps[None]:
        connection, place, verdict = self.session.connection, self.state.place, self.state.verdict
        if self.state.close() or connection is None:
            return
        try:
            if place is not None and verdict is None:
                verdict = yield from self.conclude(aborted)
            if verdict is None or not verdict.kind.ends_run:
                restarts = 0 if place is None else place.restart_count
                node = self._describe_node(connection.address, 1, None, restarts)
                yield from abort_run(Asking(connection.store), self._run, node, aborted)
        except RendezvousConnectionError as error:  # without a store no node can join either
            log.info("run %r ends with its store: %s", self._run.run_id, error)

    def num_nodes_waiting(self) -> Steps[int]:
        if self.state.place is None:
            return 0
        store, place, _ = self._current_round()
        return seats_taken((yield store.add(self._run.round(place.round + 1).seats, 0)))

    def leave(self) -> Steps[bool]:
        """Leave the run, without ending it for the others; return whether that was announced.

        A node that hosts the store of a run that has ended stays until all others have read the
        end.
        """
        self.state.turn_to(Phase.LEFT)
        self.heartbeat.stop()
        connection, self.session.connection = self.session.connection, None
        if connection is None:
            return True
        return (
            yield from leave_run(
                Asking(connection.store),
                self._run,
                self.state.place,
                self.next.join,
                self._timing.leave_s,
                stays=connection.is_host and self.state.has_ended,
            )
        )

    def _await_verdict(self, store: Asking, place: Placement, keys: RoundKeys) -> Steps[None]:
        """Take the round's verdict, or the error that ended the wait for it."""
        try:
            (found,) = yield store.wait([keys.verdict], None)
            self.state.settle(place, read_verdict(keys.verdict, found))
        except RendezvousRoundOverError as error:
            self._settle_without_verdict(place, error)
        except RendezvousConnectionError as error:
            self.state.lose_store(place, error)
        except (RendezvousError, OSError) as error:  # this node can't follow the round
            self.state.lose_store(place, RendezvousConnectionError(str(error)))

    def _settle_without_verdict(self, place: Placement, error: RendezvousRoundOverError) -> Verdict:
        """Take it that the others have lost this node, if its round was freed meanwhile.

        Else they would have waited for it in one of the rounds since.
        """
        rank = place.group_rank
        lost = Verdict(VerdictKind.NODE_LOST, rank, f"this node was lost: {error}", lost=(rank,))
        self.state.settle(place, lost)
        return self.state.verdict if self.state.place is place and self.state.verdict else lost

    def _current_round(self) -> tuple[Asking, Placement, RoundKeys]:
        place = self.state.place
        if self.session.connection is None or place is None:
            raise RendezvousStateError(f"this node is in no round of run {self._run.run_id!r}")
        return self.session.store(), place, self._run.round(place.round)
