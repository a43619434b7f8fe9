"""Several endpoints, of which the run uses one: whose node dies, stands still, or is cut off.

Every endpoint is the home of a node, which may host a store there, in its memory. The network has
cables: each leads from one machine to another, and may be cut. Who goes where and who hosts is
decided by the real ``Succession``; what stands here is what it finds at each endpoint.
"""

from collections import Counter

from elrun.rendezvous.errors import RendezvousConnectionError, RendezvousTimeoutError
from elrun.rendezvous.stores.server.endpoints import Look, Succession
from elrun.rendezvous.stores.server.retry import Retry

from .facts import Violation
from .sites import enter, follow, is_common_round
from .witness import Witness

TAKE_OVER_S = 10.0
GLANCE_S = 1.0
TRY_S = 2.0
MEETING_S = 35.0
"""Bound on the time in which nodes find each other, once nothing goes wrong any more."""
STALE_S = 25.0
"""Bound on the time for which workers outlive their round: 10 s, by a clock of half the speed, and
some seconds that they take to stop."""


class Endpoints:
    """Where a run may have its store, one after the other.

    Args:
        history: The history.
        server: Makes a store.
        make_connection: Makes a way to it.
    """

    def __init__(self, history, server, make_connection):
        self._history = history
        self._world = history.world
        self._plan = history.plan
        self._make_server = server
        self._make_connection = make_connection
        self._serving = [None] * history.plan.endpoints
        self._hosts = {}
        self._witnesses = {}
        self._cut_cables = Counter()
        self._silent = set()

    @property
    def witnesses(self):
        """Who sees the stores, in the order in which they began."""
        return self._witnesses.values()

    def way_for(self, node):
        """Return what reaches the store for a node, wherever it is."""
        places = [_Place(self, node, number) for number in range(self._plan.endpoints)]
        return _Way(node, places, self._plan.timing.join_timeout_s)

    def witness_of(self, node):
        """Return who sees the store that a node uses, or used last."""
        return self._witnesses[node.server]

    def next_home(self):
        """Return the endpoint at which the next node lives; None if it lives elsewhere."""
        inhabited = {node.home for node in self._history.nodes if not node.is_dead}
        vacant = [number for number in range(self._plan.endpoints) if number not in inhabited]
        if len(self._history.nodes) < self._plan.endpoints:
            return vacant[0] if vacant else None
        wants_home = len(vacant) == self._plan.endpoints or self._world.random.random() < 0.7
        return self._world.random.choice(vacant) if vacant and wants_home else None

    def resident(self, number):
        """Return who lives at an endpoint, or lived there last."""
        at_home = [node for node in self._history.nodes if node.home == number]
        return at_home[-1] if at_home else None

    # What must hold.

    @property
    def may_split(self):
        """Whether there may be enough nodes for two rounds at a time."""
        limits = self._plan.limits
        return 2 * limits.min_nodes <= max(len(self._history.living), limits.max_nodes)

    @property
    def is_split(self):
        """Whether the nodes use several stores, so that spares may go from one to another."""
        return len({node.server for node in self._history.living}) > 1

    def is_settled(self):
        """Return whether all that live are in common rounds, in one if there can't be two."""
        groups = {}
        for node in self._history.living:
            groups.setdefault(node.server, []).append(node)
        if len(groups) > 1 and not self.may_split:
            return False
        # A round whose store died is over, also if all its members had finished and have gone.
        return None not in groups and all(
            server in self._serving
            and is_common_round(self._witnesses[server], nodes, self._plan.limits)
            for server, nodes in groups.items()
        )

    def saw_outcome(self, node, outcome):
        """Judge how an agent ends."""
        could_meet = self._could_meet()
        if isinstance(outcome, RendezvousTimeoutError) and could_meet:
            raise Violation(f"{node} gives up, and enough could meet: {outcome}")
        if node.server is not None:
            self.witness_of(node).saw_end(node, outcome, may_lose=not could_meet)

    def _could_meet(self):
        """Return whether enough live, have long been able to meet at an endpoint, and have to."""
        living = self._history.living
        return (
            self._history.calm_s > MEETING_S
            and len(living) >= self._plan.limits.min_nodes
            and any(node.home is not None for node in living)
            and not self._history.has_ended
        )

    def saw_start(self, node, place):
        """Note that a node's workers have started; see later that they run nowhere else."""
        running, node.round = node.round, self.witness_of(node).round(place.round)
        if place.restart_count < node.restarts:
            raise Violation(f"{place.restart_count} restarts are fewer than the {node.restarts}")
        node.restarts = place.restart_count
        if running is not None:
            self._world.after(STALE_S, self._expect_the_end, running)

    def _expect_the_end(self, each):
        """Judge a round of which one member has begun another one some time ago."""
        stale = [node for node in self._history.living if node.is_at_work and node.round is each]
        late = [node for node in stale if self._world.now - node.awake_since > STALE_S]
        # Who has finished is not missed: the others may go on to their end.
        if not each.marked and [node for node in late if not node.is_paused]:
            raise Violation(f"{late} still run in round {each.number}, which others have left")
        if stale:
            self._world.after(STALE_S, self._expect_the_end, each)

    # What happens.

    def saw_end(self, node):
        """Note that a machine is dead, and the store with it if it lived there."""
        # A machine without power says nothing; one whose agent has ended says so to all.
        if node.outcome is None and self._world.random.random() < 0.5:
            self._silent.add(node)
        for server, host in list(self._hosts.items()):
            if host is node:
                self.shut(server)

    def shut(self, server):
        """Let a store be gone."""
        host = self._hosts[server]
        if server not in self._serving:
            return
        self._history.tell(host, f"hosts the store at endpoint {host.home} no more")
        self._serving[host.home] = None
        for node in self._history.living:
            for connection in node.connections:
                if connection.server is not server or node is host:
                    continue
                if self.is_apart(node, host):
                    if not connection.is_cut:
                        connection.cut()
                else:
                    connection.end("was broken by the end of its server")

    def is_host(self, node):
        """Return whether a store lives on this node's machine."""
        return any(self._hosts[server] is node for server in self._serving if server is not None)

    def cut(self, node):
        """Cut a machine off from all others."""
        self.cut_between([node], [other for other in self._history.nodes if other is not node])

    def heal(self, node):
        """Mend all cables of a machine."""
        for cable in [cable for cable in self._cut_cables if node in cable]:
            del self._cut_cables[cable]
        self.refresh()

    def cut_between(self, some, others):
        """Cut the cables between some machines and others."""
        self._cut_cables.update({frozenset((a, b)) for a in some for b in others})
        self.refresh()

    def mend_between(self, some, others):
        """Mend one cut of these cables."""
        self._cut_cables.subtract({frozenset((a, b)) for a in some for b in others})
        self.refresh()

    def refresh(self):
        """Take note that a machine stands still or goes on, or that a cable is cut or mended."""
        for node in self._history.living:
            node.connections[:] = [each for each in node.connections if not each.has_ended]
            for connection in node.connections:
                is_apart = self.is_apart(node, self._hosts[connection.server])
                if is_apart and not connection.is_cut:
                    connection.cut()
                elif connection.is_cut and not is_apart:
                    if connection.server in self._serving:
                        connection.heal()
                    else:
                        connection.end("was broken by the end of its server")

    def is_apart(self, node, host):
        """Return whether a host can't answer a node."""
        is_cut = self._cut_cables[frozenset((node, host))] > 0
        return node is not host and (is_cut or host in self._silent or host.is_paused)

    def is_reached(self, node, server):
        """Return whether a store is there, and messages of a node reach it."""
        is_apart = self.is_apart(node, self._hosts[server]) or node in self._silent
        return server in self._serving and not is_apart

    def server_at(self, number):
        """Return the store at an endpoint, if there is one."""
        return self._serving[number]

    def serve(self, node):
        """Let a node host a store."""
        witness = Witness(self._plan.limits, self)
        server = self._make_server(witness)
        self._serving[node.home] = server
        self._hosts[server] = node
        self._witnesses[server] = witness
        self._history.tell(node, f"hosts a store at endpoint {node.home}")
        return server

    def serves(self, server):
        """Return whether a store is still there."""
        return server in self._serving

    def open(self, server, node):
        """Return a connection to a store."""
        connection = self._make_connection(server, node, self._history.faults)
        node.connections.append(connection)
        if self.is_apart(node, self._hosts[server]):
            connection.cut()
        return connection

    # What the witness of one store asks about the others.

    def sealed_elsewhere(self, roster):
        """Return what is known of a round that was sealed in another store; None if nothing is."""
        for witness in self.witnesses:
            each = witness.round(roster.round)
            if each.roster == roster and roster.members and not each.is_carried:
                return each
        return None

    def last_round(self):
        """Return the number of the last round that was sealed anywhere."""
        return max(
            (each.number for witness in self.witnesses for each in witness.rounds if each.roster),
            default=-1,
        )

    def is_at(self, node, witness):
        """Return whether a node uses the store that somebody sees."""
        return node.server is not None and self.witness_of(node) is witness


class _Way:
    """How one node reaches the store, wherever it is: by the real ``Succession``."""

    def __init__(self, node, places, timeout_s):
        self._node = node
        self._places = places
        self._timeout_s = timeout_s
        self._succession = Succession(places, timeout_s, TAKE_OVER_S, node.clock)
        self._pauses = _Pauses()

    def connect(self, forming, hear):
        node, succession = self._node, self._succession
        retry = Retry(self._pauses, self._timeout_s, "the rendezvous", "not there", node.clock)

        def ask(step, go_on):
            if isinstance(step, Look):
                self._places[step.place].look(step, go_on)
            elif retry.pause(step.reason):
                node.after(self._pauses.last_s, go_on, True, None)
            else:
                go_on(False, None)

        def found(connection, error):
            if error is not None:
                hear(None, error)
                return
            node.server = connection.server
            node.has_lost_store = False
            is_host = connection.on_close is not None
            enter(connection, forming, hear, is_host=is_host, at=succession.at)

        follow(succession.search(lambda: retry.waited_s), ask, found)

    def choose(self, place):
        self._succession.choose(place)

    def survey(self, hear):
        others = [number for number in range(len(self._places)) if number != self._succession.at]
        stores = []

        def look():
            if others:
                number = others.pop(0)
                self._places[number].look(
                    Look(number), lambda connection, error: take(number, connection, error)
                )
            else:
                hear(stores, None)

        def take(number, connection, error):
            if error is None:
                stores.append((number, connection))
            look()

        look()


class _Pauses:
    """Takes the place of the event that ends the real ``Retry``; nobody waits for it here."""

    last_s = 0.0

    def wait(self, seconds):
        self.last_s = seconds
        return False


class _Place:
    """One endpoint, as seen from a node."""

    def __init__(self, endpoints, node, number):
        self._endpoints = endpoints
        self._node = node
        self._number = number

    @property
    def is_here(self):
        return self._node.home == self._number

    def look(self, step, hear):
        """Join the store here, or host one; ``hear`` takes a connection, or an error."""
        if not step.hosts:
            self._node.world.after(
                self._node.history.faults.latency_s(), self._node.do, self._knock, hear
            )
        elif self._endpoints.server_at(self._number) is not None:
            hear(None, None)
        else:
            server = self._endpoints.serve(self._node)
            connection = self._endpoints.open(server, self._node)
            connection.on_close = lambda: self._endpoints.shut(server)
            hear(connection, None)

    def _knock(self, hear):
        resident = self._endpoints.resident(self._number)
        server = self._endpoints.server_at(self._number)
        if resident is None or not self._endpoints.is_apart(self._node, resident):
            self._join(server, hear)
            return
        # A machine that stands still takes connections, and says nothing.
        is_there = resident.is_paused and server is not None

        def go_on():
            if not is_there or self._endpoints.is_apart(self._node, resident):
                hear(None, self._error("does not answer"))
            else:
                self._join(server, hear)

        self._node.after(TRY_S if is_there else GLANCE_S, go_on)

    def _join(self, server, hear):
        if server is None or not self._endpoints.serves(server):
            hear(None, self._error("refuses connections"))
        else:
            hear(self._endpoints.open(server, self._node), None)

    def _error(self, how):
        return RendezvousConnectionError(f"endpoint {self._number} {how}")
