"""The round protocol of one node, over any store: the handler that an agent drives."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..api.handler import NodeProfile, Placement, RendezvousInfo, RoundHandler, Verdict, VerdictKind
from ..api.parameters import RendezvousParameters
from ..errors import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousError,
    RendezvousStateError,
)
from ..liveness.heartbeat import Heartbeat
from ..liveness.member_watch import MemberWatch, will_of_member
from ..liveness.peers import await_signs_of_life
from ..logs import Log
from ..protocol.keys import RoundKeys, RunKeys
from ..protocol.records import Limits, Node, Origin
from ..protocol.round import seats_taken
from ..protocol.timing import Timing, timing_of
from ..protocol.wire import read_verdict, write_verdict
from ..stores.notify import Told, tell
from ..stores.signed import secret_of
from ..stores.store import Connection, Store
from ..stores.torch_view import RoundStore
from ..stores.will import leave_will
from ..threads import Call, NoThreadError
from .decline import MAX_REASON_CHARS, decline
from .finish import finish
from .join import abort_run, has_ended
from .leave import Departure
from .next_round import NextRound
from .round_state import RoundState
from .store_session import StoreSession

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket

log = Log(__name__)

MAX_OUTCOME_BYTES = 1 << 20
_MARGIN_S = 0.5


class RoundRendezvous(RoundHandler):
    """Rounds that the nodes agree on through a store.

    Args:
        params: Backend, run id, numbers of nodes, and the settings of ``timing_of`` and
            ``secret_of``; ``rank`` is the group rank that this node would like to have.
        connect: Reaches the store, at the first rendezvous; gives up when the event is set.
        timing: How long to wait for what, instead of what the settings say.
        clock: A monotonic clock.

    Raises:
        ValueError: A setting has a wrong value.
    """

    _rank_word = "group rank"

    def __init__(
        self,
        params: RendezvousParameters,
        connect: Callable[[threading.Event], Connection],
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = params.backend
        self._run = RunKeys(params.run_id)
        self._limits = Limits(params.min_nodes, params.max_nodes)
        self._wish = params.get_as_rank("rank")
        self._timing = timing or timing_of(params)
        self._clock = clock
        self._profile = NodeProfile(1)
        self._session = StoreSession(self._run, connect, secret_of(params), self._timing.scout_s)
        self._heartbeat = Heartbeat(self._session.store, self._timing, clock)
        self._state = RoundState(self._heartbeat, lambda: self._session.can_move)
        self._next_round = NextRound(
            self._run,
            self._session,
            self._state,
            self._heartbeat,
            self._timing,
            self._prepare,
            self._record,
            clock,
        )

    def get_backend(self) -> str:
        """Return the backend's name."""
        return self._backend

    def get_run_id(self) -> str:
        """Return the run id."""
        return self._run.run_id

    @property
    def is_needed_by_others(self) -> bool:
        """Whether this node hosts the only store that the run has."""
        connection = self._session.connection
        return connection is not None and connection.is_host and connection.moves is None

    def workers_listener(self) -> _socket.socket | None:
        """Listen at the address of the workers' store, if this is the node of rank 0."""
        self._is_store_served = True
        place, port = self._state.place, self._next_round.port
        if place is None or place.group_rank > 0 or port is None:
            return None
        return port.listen()

    def describe(self, profile: NodeProfile) -> None:
        """Set what this node brings to the rounds that it will join."""
        self._profile = profile

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call ``wake``, from any thread, whenever ``verdict()`` may have changed."""
        self._state.subscribe(wake)

    def next_rendezvous(self) -> RendezvousInfo:
        """Take part in the next round; block until it is sealed with this node in it.

        The thread that calls this may be abandoned: ``shutdown()`` ends its wait.
        """
        if self._state.has_ended or self._state.has_left:
            raise RendezvousClosedError(f"run {self._run.run_id!r} has ended for this node")
        before = self._state.place
        if before is not None and self._state.verdict is None:
            self.conclude(
                Verdict(VerdictKind.NODE_WAITING, before.group_rank, "a node asks for a new round")
            )
        store, place = self._next_round.enter(before)
        keys = self._run.round(place.round)
        self._next_round.begin(place)
        name = f"{socket.gethostname()} ({self._rank_word} {place.group_rank})"
        leave_will(store, will_of_member(keys, place.group_rank, name))
        MemberWatch(self._heartbeat, store, keys, place, self._timing, self.conclude).start()
        tell(store, keys.verdict, lambda found: self._on_verdict(place, keys, found))
        return RendezvousInfo(
            RoundStore(store, keys.shared),
            place.group_rank,
            place.group_world_size,
            place.workers_store,
            place,
        )

    def decline(self, reason: str) -> bool:
        """Tell the other nodes, before the first round, that this one can't take part."""
        if self._state.place is not None or self._state.has_left or not self._timing.refusal_s:
            return False

        def leave_record() -> bool:
            connection = self._session.open()
            self._prepare()
            node = replace(
                self._record(connection, 1, None),
                is_withdrawn=True,
                refusal=reason[:MAX_REASON_CHARS],
                is_host=connection.is_host and connection.moves is None,
            )
            return decline(
                connection.store, self._run, self._session.forming, node, self._timing.refusal_s
            )

        try:
            call = Call(leave_record, "elrun-refusal", or_here=False)
            return call.wait(self._timing.refusal_s + _MARGIN_S) and call.result()
        except (RendezvousError, NoThreadError) as error:
            log.info("the other nodes could not be told that this one can't take part: %s", error)
            return False

    def describe_wait(self) -> str:
        """Return which nodes are there by now, while another thread is in ``next_rendezvous``."""
        return self._next_round.describe_wait()

    def wait_limit_s(self) -> float | None:
        """Return how long this node waits for others in all; None: it is a spare."""
        return None if self._next_round.is_spare else self._timing.join_timeout_s

    def verdict(self) -> Verdict | None:
        """Return the current round's verdict if there is one, without a call to the store."""
        return self._state.verdict_or_error()

    def conclude(self, verdict: Verdict) -> Verdict:
        """Propose how the current round ended; return the verdict that stands.

        Raises:
            ValueError: The verdict's details are no JSON, or have more than 1 MiB.
        """
        store, place, keys = self._current_round()
        try:
            data = store.create(keys.verdict, write_verdict(verdict))
        except RendezvousConnectionError as error:
            moved = self._state.lose_store(place, error)
            if moved is None:
                raise
            return moved
        standing = read_verdict(keys.verdict, data)
        self._state.settle(place, standing)
        return standing

    def await_signs_of_life(self) -> None:
        """Wait until each other member lives or is lost, if the round can do without a node."""
        store, place, keys = self._current_round()
        if place.group_world_size > self._limits.min_nodes:
            await_signs_of_life(store, keys, place, self._timing, self._clock)

    def arrive(self) -> None:
        """Record that this node's workers all succeeded; the last node concludes DONE."""
        store, place, keys = self._current_round()
        try:
            are_all_done = finish(store, keys, place.group_rank, place.group_world_size)
        except RendezvousConnectionError as error:
            if self._state.lose_store(place, error) is None:
                raise
            return
        if are_all_done:
            self.conclude(Verdict(VerdictKind.DONE, place.group_rank))

    def publish(self, outcome: bytes) -> None:
        """Write this node's outcome of the current round for ``collect``.

        Args:
            outcome: At most 1 MiB, in the agents' own format.

        Raises:
            ValueError: The outcome is longer.
        """
        if len(outcome) > MAX_OUTCOME_BYTES:
            raise ValueError(f"an outcome of {len(outcome)} bytes: {MAX_OUTCOME_BYTES} are allowed")
        store, place, keys = self._current_round()
        store.set({keys.outcome(place.group_rank): outcome})

    def settle_cause(self, cause: bytes) -> bytes:
        """Write why the current round failed, unless a node has; return what stands."""
        store, _, keys = self._current_round()
        return store.create(keys.cause, cause)

    def await_cause(self, timeout_s: float) -> bytes | None:
        """Return what ``settle_cause`` has written; None: nothing within the time."""
        store, _, keys = self._current_round()
        found = store.wait([keys.cause], timeout_s)
        return None if found is None else found[0]

    def collect(self, timeout_s: float) -> Sequence[bytes | None]:
        """Return the current round's outcomes by group rank; None for each that is missing."""
        store, place, keys = self._current_round()
        names = [keys.outcome(rank) for rank in range(place.group_world_size)]
        return store.wait(names, timeout_s) or store.get(names)

    def is_closed(self) -> bool:
        """Return whether the run has ended; reads the store if this node doesn't know."""
        connection = self._session.connection
        if self._state.has_ended or connection is None:
            return self._state.has_ended
        return has_ended(connection.store, self._run)

    def set_closed(self) -> None:
        """End the run for all nodes, or for this one only if it can't reach the store."""
        connection, place, verdict = (
            self._session.connection,
            self._state.place,
            self._state.verdict,
        )
        if self._state.close() or connection is None:
            return
        reason = f"{socket.gethostname()} ended the run"
        try:
            if place is not None and verdict is None:
                verdict = self.conclude(Verdict(VerdictKind.ABORTED, place.group_rank, reason))
            if verdict is None or not verdict.kind.ends_run:
                abort_run(connection.store, self._run, self._record(connection, 1, None), reason)
        except RendezvousConnectionError as error:  # without a store no node can join either
            log.info("run %r ends with its store: %s", self._run.run_id, error)

    def num_nodes_waiting(self) -> int:
        """Return how many nodes have taken a seat in the next round."""
        if self._state.place is None:
            return 0
        store, place, _ = self._current_round()
        return seats_taken(store.add(self._run.round(place.round + 1).seats, 0))

    def shutdown(self) -> bool:
        """Leave the run, without ending it for the others, and release the store.

        A node that hosts the store of a run that has ended stays until all others have read the
        end. All this takes 5 s at most, even if the store does not answer.
        """
        self._state.leave()
        self._heartbeat.stop()
        connection = self._session.give_up()
        join, port = self._next_round.leave(), self._next_round.port
        is_announced = True
        if connection is not None:
            departure = Departure(connection.store, self._run, self._state.place, join)
            stays = connection.is_host and self._state.has_ended
            is_announced = departure.announce(self._timing.leave_s, stays=stays)
            connection.store.close()
        if port is not None:
            port.release()
        return is_announced

    def _prepare(self) -> None:
        """Do what a backend has to do each time before the node takes a seat."""

    def _record(self, connection: Connection, port: int, origin: Origin | None) -> Node:
        place = self._state.place
        return Node(
            host=socket.gethostname(),
            address=connection.address,
            port=port,
            local_world_size=self._profile.local_world_size,
            role=self._profile.role,
            limits=replace(self._limits, max_restarts=self._profile.max_restarts),
            origin=origin,
            wish=self._wish,
            restarts=0 if place is None else place.restart_count,
        )

    def _on_verdict(self, place: Placement, keys: RoundKeys, found: Told) -> None:
        """Take the round's verdict, or the error that ended the wait for it."""
        try:
            if not isinstance(found, bytes):
                raise found
            self._state.settle(place, read_verdict(keys.verdict, found))
        except RendezvousConnectionError as error:
            self._state.lose_store(place, error)
        except RendezvousError as error:  # no verdict of elrun's: this node can't follow the round
            self._state.lose_store(place, RendezvousConnectionError(str(error)))

    def _current_round(self) -> tuple[Store, Placement, RoundKeys]:
        connection, place = self._session.connection, self._state.place
        if connection is None or place is None:
            raise RendezvousStateError(f"this node is in no round of run {self._run.run_id!r}")
        return connection.store, place, self._run.round(place.round)
