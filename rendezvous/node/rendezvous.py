"""The round protocol of one node, over any store: what an agent drives."""

from __future__ import annotations

import logging
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
    RendezvousGracefulExitError,
    RendezvousStateError,
)
from ..liveness.heartbeat import Heart
from ..liveness.member_watch import Membership
from ..liveness.roll_call import call_the_roll
from ..liveness.spare_watch import Bystander
from ..network.ports import PortClaim
from ..protocol.keys import RoundKeys, RunKeys
from ..protocol.records import History, Limits, Node, Origin, Roster
from ..protocol.round import seats_taken
from ..protocol.timing import Timing, timing_of
from ..protocol.wire import read_roster, read_verdict, write_verdict
from ..stores.notify import Told, tell
from ..stores.signed import secret_of
from ..stores.store import Connection, Store
from ..stores.torch_view import RoundStore
from .finish import finish
from .join import Joining, abort_run, ended, has_ended
from .leave import Farewell
from .migrate import carry_over
from .store_session import Access

log = logging.getLogger(__name__)

MAX_OUTCOME_BYTES = 1 << 20


class RoundRendezvous(RoundHandler):
    """Rounds that the nodes agree on through a store.

    Args:
        params: Backend, run id, numbers of nodes, and the settings of ``timing_of``; ``rank`` is
            the group rank that this node would like to have.
        connect: Reaches the store, at the first rendezvous; gives up when the event is set.
        timing: How long to wait for what, beside those two.
        clock: A monotonic clock.

    Raises:
        ValueError: A setting is not what it should be.
    """

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
        self._access = Access(self._run, connect, secret_of(params))
        self._timing = timing or timing_of(params)
        self._clock = clock
        self._heart = Heart(self._access.aside, self._timing, clock)
        self._bystander = Bystander(self._heart, self._timing, clock)
        self._profile = NodeProfile(1)
        self._wakes: list[Callable[[], None]] = []
        self._shut_down = threading.Event()
        # What follows is written under the lock: next_rendezvous has a thread of its own, and
        # a round's verdict is told by one of the store's.
        self._lock = threading.Lock()
        self._joining: Joining | None = None
        self._broken_off: list[Joining] = []  # its seats may be there still, in a store left behind
        self._claim: PortClaim | None = None
        self._place: Placement | None = None
        self._roster: Roster | None = None  # kept where the run may have to move
        self._is_adrift = False
        self._verdict: Verdict | None = None
        self._loss: RendezvousConnectionError | None = None
        self._is_closed = False

    def get_backend(self) -> str:
        """Return the backend's name."""
        return self._backend

    def get_run_id(self) -> str:
        """Return the run id."""
        return self._run.run_id

    @property
    def is_needed_by_others(self) -> bool:
        """Whether this node hosts the only store that the run has."""
        connection = self._access.connection
        return connection is not None and connection.is_host and connection.moves is None

    def workers_listener(self) -> socket.socket | None:
        """Listen where the current round's workers meet, if this is the node of rank 0."""
        self._is_store_served = True
        with self._lock:
            place, claim = self._place, self._claim
        if place is None or place.group_rank > 0 or claim is None:
            return None
        return claim.listen()

    def describe(self, profile: NodeProfile) -> None:
        """Say what this node brings to the rounds it will join."""
        self._profile = profile

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call ``wake``, from any thread, whenever ``verdict()`` may have changed."""
        self._wakes.append(wake)

    def next_rendezvous(self) -> RendezvousInfo:
        """Take part in the next round; block until it is sealed with this node in it.

        The thread that calls this may be abandoned: ``shutdown()`` ends its wait.
        """
        if self._has_ended() or self._shut_down.is_set():
            raise RendezvousClosedError(f"run {self._run.run_id!r} has ended for this node")
        before = self._place
        if before is not None and self._verdict is None:
            self.conclude(
                Verdict(VerdictKind.NODE_WAITING, before.group_rank, "a node asks for a new round")
            )
        store, place = self._meet(before)
        keys = self._run.round(place.round)
        with self._lock:
            self._place, self._verdict, self._loss, self._joining = place, None, None, None
        Membership(self._heart, store, keys, place, self._timing, self.conclude).begin()
        tell(store, keys.verdict, lambda told: self._hear(place, keys, told))
        return RendezvousInfo(
            RoundStore(store, keys.shared),
            place.group_rank,
            place.group_world_size,
            place.workers_store,
            place,
        )

    def describe_wait(self) -> str:
        """Say who is there by now, while another thread is in ``next_rendezvous``."""
        with self._lock:
            joining = self._joining
        if joining is not None:
            return joining.describe_wait()
        return ""  # what is in the way of the store is told by those who try to reach it

    def verdict(self) -> Verdict | None:
        """Return the current round's verdict if there is one, without asking the store."""
        with self._lock:
            if self._verdict is None and self._loss is not None:
                raise RendezvousConnectionError(str(self._loss)) from self._loss
            return self._verdict

    def conclude(self, verdict: Verdict) -> Verdict:
        """Propose how the current round ended; return the verdict that stands.

        Raises:
            ValueError: The verdict's details are no JSON, or have more than 1 MiB.
        """
        store, place, keys = self._current_round()
        try:
            data = store.create(keys.verdict, write_verdict(verdict))
        except RendezvousConnectionError as error:
            moved = self._lose(place, error)
            if moved is None:
                raise
            return moved
        return self._settle(place, read_verdict(keys.verdict, data))

    def await_signs_of_life(self) -> None:
        """Wait until all other members live or are lost, if there are more than are needed."""
        store, place, keys = self._current_round()
        if place.group_world_size > self._limits.min_nodes:
            call_the_roll(store, keys, place, self._timing, self._clock)

    def arrive(self) -> None:
        """Say that this node's workers all succeeded; the last node to say so concludes DONE."""
        store, place, keys = self._current_round()
        try:
            are_all_done = finish(store, keys, place.group_rank, place.group_world_size)
        except RendezvousConnectionError as error:
            if self._lose(place, error) is None:
                raise
            return
        if are_all_done:
            self.conclude(Verdict(VerdictKind.DONE, place.group_rank))

    def publish(self, outcome: bytes) -> None:
        """Leave this node's outcome of the current round for ``collect``.

        Args:
            outcome: At most 1 MiB, in the agents' own format.

        Raises:
            ValueError: It is longer.
        """
        if len(outcome) > MAX_OUTCOME_BYTES:
            raise ValueError(f"an outcome of {len(outcome)} bytes: {MAX_OUTCOME_BYTES} are allowed")
        store, place, keys = self._current_round()
        store.set({keys.outcome(place.group_rank): outcome})

    def collect(self, timeout_s: float) -> Sequence[bytes | None]:
        """Return the outcomes of the current round by group rank; None for those not there."""
        store, place, keys = self._current_round()
        names = [keys.outcome(rank) for rank in range(place.group_world_size)]
        return store.wait(names, timeout_s) or store.get(names)

    def is_closed(self) -> bool:
        """Return whether the run has ended; asks the store if this node doesn't know."""
        connection = self._access.connection
        if self._has_ended() or connection is None:
            return self._has_ended()
        return has_ended(connection.store, self._run)

    def set_closed(self) -> None:
        """End the run for all nodes, or for this one only if the store is out of its reach."""
        has_ended_already = self._has_ended()
        connection, place = self._access.connection, self._place
        self._is_closed = True
        if has_ended_already or connection is None:
            return
        reason = f"{socket.gethostname()} ended the run"
        try:
            if place is not None and self._verdict is None:
                self.conclude(Verdict(VerdictKind.ABORTED, place.group_rank, reason))
            if not self._verdict_ends_run():
                abort_run(connection.store, self._run, self._record(connection, port=1), reason)
        except RendezvousConnectionError as error:  # without a store nobody can join either
            log.info("run %r ends with its store: %s", self._run.run_id, error)

    def num_nodes_waiting(self) -> int:
        """Return how many nodes have taken a seat in the next round."""
        if self._place is None:
            return 0
        store, place, _ = self._current_round()
        return seats_taken(store.add(self._run.round(place.round + 1).seats, 0))

    def shutdown(self) -> bool:
        """Leave the run, without ending it for the others, and release the store.

        The node that hosts the store of a run that has ended stays until all others have read
        that. All this takes 5 s at most, whatever the store does.
        """
        self._shut_down.set()
        self._wakes.clear()
        self._heart.rest()
        connection = self._access.give_up()
        with self._lock:
            joining, claim = self._joining, self._claim
        is_told = True
        if connection is not None:
            farewell = Farewell(connection.store, self._run, self._place, joining)
            stays = connection.is_host and self._has_ended()
            is_told = farewell.say(self._timing.farewell_s, stays=stays)
            connection.store.close()
        if claim is not None:
            claim.release()
        return is_told

    def _meet(self, before: Placement | None) -> tuple[Store, Placement]:
        """Enter the next round, in this store or, when it is lost and there is another, in that."""
        began_at = self._clock()
        while True:
            if self._is_adrift:
                self._access.drop()
            connection = self._access.open(0 if before is None else before.round + 1)
            try:
                place = self._enter(connection, before)
            except RendezvousConnectionError as error:
                short_since = max(began_at, self._bystander.stood_until)
                is_late = self._clock() - short_since >= self._timing.join_timeout_s
                if connection.moves is None or self._shut_down.is_set() or is_late:
                    raise
                log.warning("%s; looking at the other endpoints", error)
                self._is_adrift = True
                with self._lock:
                    joining, self._joining = self._joining, None
                if joining is not None:
                    self._broken_off.append(joining)
            else:
                self._is_adrift = False
                return connection.store, place

    def _enter(self, connection: Connection, before: Placement | None) -> Placement:
        if self._is_adrift:
            for joining in self._broken_off:
                joining.leave_over(connection.store)
            if before is not None and not self._carry_over(connection, before):
                before = None
        with self._access.looking_elsewhere(self._leave_seats):
            place = self._join(connection, before)
        if connection.moves is not None:
            key = self._run.round(place.round).roster
            (data,) = connection.store.get([key])
            self._roster = None if data is None else read_roster(key, data)
        return place

    def _leave_seats(self) -> None:
        joining = self._joining
        if joining is not None:
            joining.leave()

    def _carry_over(self, connection: Connection, before: Placement) -> bool:
        """Return whether this node is a survivor also where the run meets now."""
        roster, verdict = self._roster, self._verdict
        if roster is None or roster.round != before.round or verdict is None:
            return False
        history = History(roster, verdict)
        standing = carry_over(
            connection.store,
            self._run,
            history,
            self._access.forming,
            before.group_rank,
            self._bystander,
        )
        with self._lock:
            self._verdict = standing or verdict
        if standing is not None and standing.kind.ends_run:
            raise ended(self._run, standing, self._timing, has_waited=True)
        return standing is not None

    def _join(self, connection: Connection, before: Placement | None) -> Placement:
        last_claim = self._claim
        try:
            claim = PortClaim.take()
        except OSError as error:
            raise RendezvousError(f"{error.strerror}: all ports are in use") from error
        with self._lock:
            self._claim = claim
            if self._shut_down.is_set():
                claim.release()
                raise RendezvousClosedError(f"this node has left run {self._run.run_id!r}")
            origin = self._origin(before)
            node = self._record(connection, claim.port, origin)
            number = self._access.forming if before is None else before.round + 1
            joining = Joining(
                connection.store,
                self._run,
                node,
                number,
                self._timing,
                self._heart,
                self._bystander,
                self._clock,
            )
            self._joining = joining
        if last_claim is not None:  # only now, so that no two rounds in a row have one port
            last_claim.release()
        try:
            return joining.enter()
        except (RendezvousClosedError, RendezvousGracefulExitError):
            self._is_closed = True
            raise

    def _record(self, connection: Connection, port: int, origin: Origin | None = None) -> Node:
        return Node(
            host=socket.gethostname(),
            address=connection.address,
            port=port,
            local_world_size=self._profile.local_world_size,
            role=self._profile.role,
            limits=replace(self._limits, max_restarts=self._profile.max_restarts),
            origin=origin,
            wish=self._wish,
            restarts=0 if self._place is None else self._place.restart_count,
        )

    def _origin(self, before: Placement | None) -> Origin | None:
        """Return where this node comes from; it is a newcomer if the others think it lost."""
        if before is None or (
            self._verdict is not None and before.group_rank in self._verdict.lost
        ):
            return None
        return Origin(before.round, before.group_rank)

    def _hear(self, place: Placement, keys: RoundKeys, told: Told) -> None:
        """Take in the round's verdict, or that this node will hear of none."""
        try:
            if not isinstance(told, bytes):
                raise told
            self._settle(place, read_verdict(keys.verdict, told))
        except RendezvousConnectionError as error:
            self._lose(place, error)
        except RendezvousError as error:  # a foreign verdict: the round can't be followed any more
            self._lose(place, RendezvousConnectionError(str(error)))

    def _settle(self, place: Placement, verdict: Verdict) -> Verdict:
        with self._lock:
            if self._place is place and self._verdict is None:
                self._verdict = verdict
                if verdict.kind.ends_run:
                    self._heart.rest()
                else:
                    self._heart.listen_to(())
        self._wake_subscribers()
        return verdict

    def _lose(self, place: Placement, loss: RendezvousConnectionError) -> Verdict | None:
        """Take note that the store is lost; return the verdict on the round if the run can move."""
        with self._lock:
            is_running = self._place is place and self._verdict is None
            if is_running and not self._shut_down.is_set():
                self._heart.rest()
                if self._access.can_move:
                    self._is_adrift = True
                    reason = f"{loss}; the nodes meet at the next endpoint"
                    self._verdict = Verdict(VerdictKind.NODE_LOST, reason=reason)
                else:
                    self._loss = loss
            verdict = self._verdict
        self._wake_subscribers()
        return verdict

    def _wake_subscribers(self) -> None:
        for wake in list(self._wakes):
            wake()

    def _current_round(self) -> tuple[Store, Placement, RoundKeys]:
        with self._lock:
            connection = self._access.connection
            if connection is None or self._place is None:
                raise RendezvousStateError(f"this node is in no round of run {self._run.run_id!r}")
            return connection.store, self._place, self._run.round(self._place.round)

    def _has_ended(self) -> bool:
        return self._is_closed or self._verdict_ends_run()

    def _verdict_ends_run(self) -> bool:
        return self._verdict is not None and self._verdict.kind.ends_run
