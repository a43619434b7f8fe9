"""One node's way into its next round, in the store that it knows or in the next one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from ..api.handler import Placement, Verdict, VerdictKind
from ..errors import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousEntryError,
    RendezvousError,
    RendezvousGracefulExitError,
    RendezvousStateError,
)
from ..liveness.heartbeat import Heartbeat
from ..liveness.round_watch import SpareWatch
from ..logs import Log
from ..network.addresses import Endpoint
from ..protocol.announcements import Announcement, should_announce
from ..protocol.keys import RunKeys
from ..protocol.records import History, Node, Origin, Roster
from ..protocol.timing import Timing
from ..protocol.wire import read_roster
from ..stores.steps import (
    PREPARE,
    RELEASE_PORT,
    TAKE_ENDPOINT,
    Asking,
    Reached,
    Request,
    Steps,
    sleep,
)
from .join import Join, abort_run, ended
from .migrate import migrate_round
from .round_state import Phase, RoundState
from .store_session import Scout, StoreSession

log = Log(__name__)

DescribeNode = Callable[[str, int, Origin | None, int], Node]
"""Returns a node's record, from its address, its port, its origin, and the number of restarts."""


class NextRound:
    """Takes one node from round to round."""

    def __init__(
        self,
        run: RunKeys,
        session: StoreSession,
        state: RoundState,
        heartbeat: Heartbeat,
        timing: Timing,
        describe_node: DescribeNode,
        clock: Callable[[], float],
        spawn: Callable[[Steps[None]], None],
    ) -> None:
        self._run = run
        self._session = session
        self._state = state
        self._heartbeat = heartbeat
        self._timing = timing
        self._describe_node = describe_node
        self._clock = clock
        self._spawn = spawn
        self._spare_watch = SpareWatch(heartbeat, timing, clock)
        self._roster: Roster | None = None  # kept where the run may have to move
        # Seats that may still stand in a store that was lost: one way in for each endpoint.
        self._abandoned: dict[int, Join] = {}
        self.join: Join | None = None
        """The node's way into a round that has not taken it yet."""
        self.port: int | None = None
        """The port that is kept free for the workers' store of this node's round."""

    def enter(self, before: Placement | None) -> Steps[tuple[Asking, Placement]]:
        """Take the node into a sealed round; go to the next store if one is lost.

        Args:
            before: The node's place in the round before; None for its first.
        """
        began_at = self._clock()
        announced: Announcement | None = None
        while True:
            self._state.turn_to(Phase.ENTERING)
            if self._state.must_reconnect:
                yield from self._session.disconnect()
            try:
                connection = yield from self._session.open(
                    0 if before is None else before.round + 1
                )
            except RendezvousEntryError as error:
                if self._state.has_left or self._is_late(began_at):
                    raise
                reason, waited_s = str(error), self._clock() - began_at
                if should_announce(reason, waited_s, announced, first_s=0.0):
                    announced = Announcement(reason, waited_s)
                    log.warning("%s; looking at the other endpoints", reason)
                yield sleep(self._timing.heartbeat_s)  # a store that fell silent tells no event
                continue
            try:
                place = yield from self._enter_over(connection, before)
            except RendezvousConnectionError as error:
                if connection.at is None or self._state.has_left or self._is_late(began_at):
                    raise
                log.warning("%s; looking at the other endpoints", error)
                self._state.must_reconnect = True
                if self.join is not None:
                    self._abandoned[connection.at] = self.join
                    self.join = None
            else:
                self._state.must_reconnect = False
                return Asking(connection.store), place

    def _is_late(self, began_at: float) -> bool:
        """Return whether a node that began to look for a round then has looked for long enough."""
        alone_since = max(began_at, self._spare_watch.watched_until)
        return self._clock() - alone_since >= self._timing.join_timeout_s

    def begin(self, place: Placement) -> None:
        """Make this the current round, once ``enter`` has returned it."""
        self._state.begin(place)
        self.join = None

    def _enter_over(self, connection: Reached, before: Placement | None) -> Steps[Placement]:
        store = Asking(connection.store)
        yield Request(None, PREPARE, ())
        if self._state.must_reconnect:
            for join in self._abandoned.values():
                yield from join.leave_over(store)
            if connection.at is not None:  # what was not there is gone with the store's records
                self._abandoned.pop(connection.at, None)
            if before is not None and not (yield from self._migrate(connection, before)):
                before = None
        place = yield from self._take_part(connection, before)
        if connection.at is not None:
            key = self._run.round(place.round).roster
            (data,) = yield store.get([key])
            self._roster = None if data is None else read_roster(key, data)
        return place

    def _leave_seats(self) -> Steps[None]:
        if self.join is not None:
            yield from self.join.leave()

    def _migrate(self, connection: Reached, before: Placement) -> Steps[bool]:
        """Return whether this node is a survivor also in the store where the run meets now."""
        roster, verdict = self._roster, self._state.verdict
        if roster is None or roster.round != before.round or verdict is None:
            return False
        standing = yield from migrate_round(
            Asking(connection.store),
            self._run,
            History(roster, verdict),
            connection.forming,
            before.group_rank,
            self._spare_watch,
        )
        self._state.verdict = standing or verdict
        if standing is not None and standing.kind.ends_run:
            raise ended(self._run, standing, self._timing, has_waited=True)
        return standing is not None

    def _take_part(self, connection: Reached, before: Placement | None) -> Steps[Placement]:
        last_port = self.port
        join = yield from self._begin_join(connection, before)
        if last_port is not None:  # only now, so that no two rounds in a row have one port
            yield Request(None, RELEASE_PORT, (last_port,))
        scout = Scout(self._run, connection, self._timing.scout_s, self._leave_seats)
        if connection.at is not None:
            self._spawn(scout.watch())
        try:
            place = yield from join.enter()
        except (RendezvousClosedError, RendezvousGracefulExitError):
            self._state.close()
            raise
        except RendezvousStateError as error:
            if connection.is_host and connection.at is None:
                yield from self._end_with_store(connection, error)
            raise
        finally:
            scout.is_over = True
        if scout.is_leaving:
            with suppress(RendezvousError):
                yield from join.leave()
            raise RendezvousConnectionError("this node goes to another endpoint")
        return place

    def _end_with_store(self, connection: Reached, error: RendezvousStateError) -> Steps[None]:
        """End the run for all nodes: the node with its only store can't take part."""
        node = self._describe_node(connection.address, 1, None, 0)
        reason = f"{node.host}, which hosts the rendezvous, can't take part: {error}"
        aborted = Verdict(VerdictKind.ABORTED, reason=reason)
        with suppress(RendezvousError):
            yield from abort_run(Asking(connection.store), self._run, node, aborted)
        self._state.close()

    def _begin_join(self, connection: Reached, before: Placement | None) -> Steps[Join]:
        mine: Endpoint = yield Request(None, TAKE_ENDPOINT, ())
        if self._state.has_left:
            yield Request(None, RELEASE_PORT, (mine.port,))
            raise RendezvousClosedError(f"this node has left run {self._run.run_id!r}")
        restarts = 0 if self._state.place is None else self._state.place.restart_count
        node = self._describe_node(mine.host, mine.port, self._origin(before), restarts)
        self.port = mine.port
        self.join = Join(
            Asking(connection.store),
            self._run,
            node,
            connection.forming if before is None else before.round + 1,
            self._timing,
            self._heartbeat,
            self._spare_watch,
            self._clock,
            self._state,
        )
        return self.join

    def _origin(self, before: Placement | None) -> Origin | None:
        """Return where this node comes from; a node that the others count as lost is a newcomer."""
        verdict = self._state.verdict
        if before is None or (verdict is not None and before.group_rank in verdict.lost):
            return None
        return Origin(before.round, before.group_rank)
