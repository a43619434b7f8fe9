"""The round protocol of one node, over any store: what an agent drives."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from .entry import enter_run
from .farewell import Farewell
from .handler import (
    NodeProfile,
    Placement,
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousError,
    RendezvousGracefulExitError,
    RendezvousInfo,
    RendezvousStateError,
    RoundHandler,
    Verdict,
    VerdictKind,
)
from .heart import Heart
from .joining import Joining, abort_run, has_ended
from .keys import RoundKeys, RunKeys
from .membership import Membership
from .parameters import RendezvousParameters
from .ports import PortClaim
from .records import Limits, Node, Origin
from .round import DOOR
from .round_store import RoundStore
from .signing import SignedStore, secret_of
from .store import Connection, Store
from .timing import Timing, timing_of
from .wire import read_verdict, write_verdict

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
        self._secret = secret_of(params)
        self._connect = connect
        self._timing = timing or timing_of(params)
        self._clock = clock
        self._heart = Heart(self._open_aside, self._timing, clock)
        self._aside_lock = threading.Lock()
        self._aside: Store | None = None
        self._profile = NodeProfile(1)
        self._wakes: list[Callable[[], None]] = []
        self._shut_down = threading.Event()
        # What follows is written under the lock: next_rendezvous has a thread of its own, and so
        # has the watcher of each round.
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._forming = 0
        self._joining: Joining | None = None
        self._claim: PortClaim | None = None
        self._place: Placement | None = None
        self._verdict: Verdict | None = None
        self._loss: RendezvousConnectionError | None = None
        self._is_closed = False

    def get_backend(self) -> str:
        """Return the backend's name."""
        return self._backend

    def get_run_id(self) -> str:
        """Return the run id."""
        return self._run.run_id

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
        store = self._reach_store().store
        place = self._join(before)
        keys = self._run.round(place.round)
        with self._lock:
            self._place, self._verdict, self._loss, self._joining = place, None, None, None
        Membership(self._heart, store, keys, place, self._timing, self.conclude).begin()
        threading.Thread(
            target=self._watch, args=(store, place, keys), name="elrun-verdict", daemon=True
        ).start()
        return RendezvousInfo(
            RoundStore(store, keys.shared),
            place.group_rank,
            place.group_world_size,
            place.workers_store,
            place,
        )

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
        data = store.create(keys.verdict, write_verdict(verdict))
        return self._settle(place, read_verdict(keys.verdict, data))

    def arrive(self) -> None:
        """Say that this node's workers all succeeded; the last node to say so concludes DONE."""
        store, place, keys = self._current_round()
        store.set({keys.success(place.group_rank): b"1"})
        if store.add(keys.finished, 1) < place.group_world_size:
            return
        # The counter bears no signature: it says when to look, and the marks say what is so.
        marks = [keys.success(rank) for rank in range(place.group_world_size)]
        if None not in store.get(marks):
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
        connection = self._connection
        if self._has_ended() or connection is None:
            return self._has_ended()
        return has_ended(connection.store, self._run)

    def set_closed(self) -> None:
        """End the run for all nodes, or for this one only if the store is out of its reach."""
        has_ended_already = self._has_ended()
        connection, place = self._connection, self._place
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
        return store.add(self._run.round(place.round + 1).seats, 0) % DOOR

    def shutdown(self) -> bool:
        """Leave the run, without ending it for the others, and release the store.

        The node that hosts the store of a run that has ended stays until all others have read
        that. All this takes 5 s at most, whatever the store does.
        """
        self._shut_down.set()
        self._wakes.clear()
        self._heart.rest()
        with self._lock:
            connection, self._connection = self._connection, None
            joining, claim = self._joining, self._claim
        is_told = True
        if connection is not None:
            farewell = Farewell(connection.store, self._run, self._place, joining)
            stays = connection.is_host and self._has_ended()
            is_told = farewell.say(self._timing.farewell_s, stays=stays)
            connection.store.close()
        if self._aside is not None:
            self._aside.close()
        if claim is not None:
            claim.release()
        return is_told

    def _reach_store(self) -> Connection:
        if self._connection is None:
            connection = self._connect(self._shut_down)
            try:
                connection = self._enter_run(connection)
            except RendezvousError:
                connection.store.close()
                raise
            with self._lock:
                if self._shut_down.is_set():
                    connection.store.close()
                    raise RendezvousClosedError(f"this node has left run {self._run.run_id!r}")
                self._connection = connection
        return self._connection

    def _enter_run(self, connection: Connection) -> Connection:
        """Return the connection as this run's nodes use it."""
        secret, open_aside = self._secret, connection.open_aside
        self._forming = enter_run(connection.store, self._run, secret)
        if secret is None:
            return connection
        return replace(
            connection,
            store=SignedStore(connection.store, secret),
            open_aside=open_aside and (lambda: SignedStore(open_aside(), secret)),
        )

    def _open_aside(self, broken: Store | None) -> Store:
        """Return the store as the heart reaches it: anew, if that broke."""
        connection = self._connection
        if connection is None:
            raise RendezvousClosedError(f"this node has left run {self._run.run_id!r}")
        if connection.open_aside is None:
            return connection.store
        with self._aside_lock:
            if self._aside is None or self._aside is broken:
                self._aside = connection.open_aside()
                if self._shut_down.is_set():
                    self._aside.close()
            return self._aside

    def _join(self, before: Placement | None) -> Placement:
        last_claim = self._claim
        try:
            claim = PortClaim.take()
        except OSError as error:
            raise RendezvousError(f"{error.strerror}: all ports are in use") from error
        with self._lock:
            connection, self._claim = self._connection, claim
            if connection is None:
                claim.release()
                raise RendezvousClosedError(f"this node has left run {self._run.run_id!r}")
            origin = self._origin(before)
            node = self._record(connection, claim.port, origin)
            number = self._forming if before is None else before.round + 1
            joining = Joining(
                connection.store, self._run, node, number, self._timing, self._heart, self._clock
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
            limits=self._limits,
            origin=origin,
            wish=self._wish,
        )

    def _origin(self, before: Placement | None) -> Origin | None:
        """Return where this node comes from; it is a newcomer if the others think it lost."""
        if before is None or (
            self._verdict is not None and before.group_rank in self._verdict.lost
        ):
            return None
        return Origin(before.round, before.group_rank)

    def _watch(self, store: Store, place: Placement, keys: RoundKeys) -> None:
        """Block until the round has a verdict; a thread of its own does."""
        try:
            told = store.wait([keys.verdict], None)
            if told is not None:
                self._settle(place, read_verdict(keys.verdict, told[0]))
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

    def _lose(self, place: Placement, loss: RendezvousConnectionError) -> None:
        with self._lock:
            if self._place is place and not self._shut_down.is_set():
                self._loss = loss
                self._heart.rest()
        self._wake_subscribers()

    def _wake_subscribers(self) -> None:
        for wake in list(self._wakes):
            wake()

    def _current_round(self) -> tuple[Store, Placement, RoundKeys]:
        with self._lock:
            if self._connection is None or self._place is None:
                raise RendezvousStateError(f"this node is in no round of run {self._run.run_id!r}")
            return self._connection.store, self._place, self._run.round(self._place.round)

    def _has_ended(self) -> bool:
        return self._is_closed or self._verdict_ends_run()

    def _verdict_ends_run(self) -> bool:
        return self._verdict is not None and self._verdict.kind.ends_run
