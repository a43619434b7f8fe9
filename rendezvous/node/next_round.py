"""One node's way into its next round, in the store that it knows or in the next one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..api.handler import Placement
from ..errors import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousError,
    RendezvousGracefulExitError,
)
from ..liveness.heartbeat import Heartbeat
from ..liveness.spare_watch import SpareWatch
from ..logs import Log
from ..network.ports import PortClaim
from ..protocol.keys import RunKeys
from ..protocol.records import History, Node, Origin, Roster
from ..protocol.timing import Timing
from ..protocol.wire import read_roster
from ..stores.store import Connection, Store
from .join import Join, ended
from .migrate import migrate_round
from .round_state import RoundState
from .store_session import StoreSession

log = Log(__name__)


class NextRound:
    """Takes one node from round to round.

    ``enter`` is called by one thread at a time; ``describe_wait`` and ``leave`` by any thread,
    meanwhile.

    Args:
        run: The run's keys.
        session: The node's way to the store.
        state: What the node knows of its current round.
        heartbeat: The node's heartbeat.
        timing: How long to wait for what.
        prepare: Called each time before the node takes a seat.
        describe_node: Returns the node's record, from its connection, its port and its origin.
        clock: A monotonic clock.
    """

    def __init__(
        self,
        run: RunKeys,
        session: StoreSession,
        state: RoundState,
        heartbeat: Heartbeat,
        timing: Timing,
        prepare: Callable[[], None],
        describe_node: Callable[[Connection, int, Origin | None], Node],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._session = session
        self._state = state
        self._heartbeat = heartbeat
        self._timing = timing
        self._prepare = prepare
        self._describe_node = describe_node
        self._clock = clock
        self._spare_watch = SpareWatch(heartbeat, timing, clock)
        self._roster: Roster | None = None  # kept where the run may have to move
        # Seats that may still stand in a store that was lost: one way in for each endpoint.
        self._abandoned: dict[int, Join] = {}
        # The lock guards what follows.
        self._lock = threading.Lock()
        self._join: Join | None = None
        self._port: PortClaim | None = None

    @property
    def port(self) -> PortClaim | None:
        """The port that this node keeps free for the workers' store of its round."""
        with self._lock:
            return self._port

    def enter(self, before: Placement | None) -> tuple[Store, Placement]:
        """Block until this node is a member of a sealed round; go to the next store if one is lost.

        Args:
            before: The node's place in the round before; None for its first.
        """
        began_at = self._clock()
        while True:
            if self._state.must_reconnect:
                self._session.disconnect()
            connection = self._session.open(0 if before is None else before.round + 1)
            try:
                place = self._enter_over(connection, before)
            except RendezvousConnectionError as error:
                alone_since = max(began_at, self._spare_watch.watched_until)
                is_late = self._clock() - alone_since >= self._timing.join_timeout_s
                if connection.moves is None or self._state.has_left or is_late:
                    raise
                log.warning("%s; looking at the other endpoints", error)
                self._state.set_must_reconnect(True)
                join = self._end_join()
                if join is not None:
                    self._abandoned[connection.moves.at] = join
            else:
                self._state.set_must_reconnect(False)
                return connection.store, place

    def begin(self, place: Placement) -> None:
        """Make this the current round, once ``enter`` has returned it."""
        self._state.begin(place)
        self._end_join()  # second: ``leave`` must find the join or the place

    def describe_wait(self) -> str:
        """Return which nodes are there by now, as a sentence; "" if this node waits for none."""
        with self._lock:
            join = self._join
        # A wait for the store is described by the code that tries to reach it.
        return "" if join is None else join.describe_wait()

    @property
    def is_spare(self) -> bool:
        """Whether this node waits beside a round that runs without it."""
        with self._lock:
            return self._join is not None and self._join.is_standing_by

    def leave(self) -> Join | None:
        """Return the join that goes on, after ``RoundState.leave``; none begins any more."""
        with self._lock:
            return self._join

    def _end_join(self) -> Join | None:
        with self._lock:
            join, self._join = self._join, None
            return join

    def _enter_over(self, connection: Connection, before: Placement | None) -> Placement:
        self._prepare()
        if self._state.must_reconnect:
            for join in self._abandoned.values():
                join.leave_over(connection.store)
            if connection.moves is not None:  # what was not there is gone with the store's records
                self._abandoned.pop(connection.moves.at, None)
            if before is not None and not self._migrate(connection, before):
                before = None
        with self._session.scouting(self._leave_seats):
            place = self._take_part(connection, before)
        if connection.moves is not None:
            key = self._run.round(place.round).roster
            (data,) = connection.store.get([key])
            self._roster = None if data is None else read_roster(key, data)
        return place

    def _leave_seats(self) -> None:
        with self._lock:
            join = self._join
        if join is not None:
            join.leave()

    def _migrate(self, connection: Connection, before: Placement) -> bool:
        """Return whether this node is a survivor also in the store where the run meets now."""
        roster, verdict = self._roster, self._state.verdict
        if roster is None or roster.round != before.round or verdict is None:
            return False
        standing = migrate_round(
            connection.store,
            self._run,
            History(roster, verdict),
            self._session.forming,
            before.group_rank,
            self._spare_watch,
        )
        self._state.replace_verdict(standing or verdict)
        if standing is not None and standing.kind.ends_run:
            raise ended(self._run, standing, self._timing, has_waited=True)
        return standing is not None

    def _take_part(self, connection: Connection, before: Placement | None) -> Placement:
        last_port = self.port
        join = self._begin_join(connection, before)
        if last_port is not None:  # only now, so that no two rounds in a row have one port
            last_port.release()
        try:
            return join.enter()
        except (RendezvousClosedError, RendezvousGracefulExitError):
            self._state.close()
            raise

    def _begin_join(self, connection: Connection, before: Placement | None) -> Join:
        try:
            port = PortClaim.take()
        except OSError as error:
            raise RendezvousError(f"{error.strerror}: all ports are in use") from error
        node = self._describe_node(connection, port.port, self._origin(before))
        join = Join(
            connection.store,
            self._run,
            node,
            self._session.forming if before is None else before.round + 1,
            self._timing,
            self._heartbeat,
            self._spare_watch,
            self._clock,
        )
        with self._lock:
            if self._state.has_left:
                port.release()
                raise RendezvousClosedError(f"this node has left run {self._run.run_id!r}")
            self._port, self._join = port, join
        return join

    def _origin(self, before: Placement | None) -> Origin | None:
        """Return where this node comes from; a node that the others count as lost is a newcomer."""
        verdict = self._state.verdict
        if before is None or (verdict is not None and before.group_rank in verdict.lost):
            return None
        return Origin(before.round, before.group_rank)
