"""Where the run's store is when it has one place only, which may be a machine of its own."""

from elrun.rendezvous.errors import (
    RendezvousConnectionError,
    RendezvousEntryError,
    RendezvousError,
)
from elrun.rendezvous.node.store_session import enter_run
from elrun.rendezvous.stores.steps import Asking, Reached

from .keys import RUN
from .witness import Witness

FAREWELL_S = 5.0
"""Bound on the time for which a host stays: 2 s, by a clock of half the speed, and a moment."""


def follow(steps, ask, hear):
    """Carry out a procedure.

    Args:
        steps: The procedure.
        ask: Carries out one step, and gives its answer and error to the function that it takes.
        hear: Takes what the procedure returns, or the error that it raises.
    """

    def go_on(value, error):
        try:
            step = steps.send(value) if error is None else steps.throw(error)
        except StopIteration as end:
            hear(end.value, None)
        except RendezvousError as failure:
            hear(None, failure)
        else:
            ask(step, go_on)

    go_on(None, None)


def enter(connection, forming, hear, *, is_host=False, at=None, run=RUN, secret=None):
    """Enter the run over a fresh connection; ``hear`` takes a ``Reached``."""

    def take(number, error):
        name = connection.machine.name
        if isinstance(error, RendezvousConnectionError) and at is not None:
            error = RendezvousEntryError(str(error))
        hear(None if error else Reached(connection, name, number, is_host, at), error)

    follow(
        enter_run(Asking(connection), run, secret, forming),
        lambda request, go_on: connection.ask(request.name, request.args, go_on),
        take,
    )


class _Way:
    """How one node reaches the only store."""

    def __init__(self, site, node):
        self._site = site
        self._node = node

    def connect(self, forming, hear):
        try:
            connection = self._site.open(self._node)
        except RendezvousConnectionError as error:
            hear(None, error)
        else:
            enter(connection, forming, hear, is_host=self._site.is_host(self._node))


class OneStore:
    """The only store that a run has.

    Args:
        history: The history.
        server: Makes the store.
        make_connection: Makes a way to it.
    """

    def __init__(self, history, server, make_connection):
        self._history = history
        self._plan = history.plan
        self._make_connection = make_connection
        self._is_served = True
        self.witness = Witness(history.plan.limits)
        self.server = server(self.witness)
        self.witnesses = (self.witness,)
        self.is_split = False

    def way_for(self, node):
        """Return what reaches the store for a node."""
        return _Way(self, node)

    def witness_of(self, _node):
        """Return who sees the store that a node uses."""
        return self.witness

    def next_home(self):
        """Return the endpoint at which the next node lives."""
        return

    def is_settled(self):
        """Return whether all that live are in a round or wait beside it, or none is left."""
        living = self._history.living
        return not living or is_common_round(self.witness, living, self._plan.limits)

    def saw_outcome(self, node, outcome):
        """Judge how an agent ends."""
        may_lose = node.has_lost_store or not self._history.is_calm
        self.witness.saw_end(node, outcome, may_lose=may_lose)

    def saw_start(self, node, place):
        """Note that a node's workers have started."""

    def saw_end(self, node):
        """Note that a machine is dead, and the store with it if it lived there."""
        if not self.is_host(node):
            return
        self._is_served = False
        for other in self._history.living:
            # It stays for those who take part or wait; who comes after the end, comes too late,
            # and so may one that was out of its reach for a part of the time that it stays.
            is_told = self.witness.has_ended and self.witness.has_sat(other)
            other.has_lost_store = not (self._history.calm_s > FAREWELL_S and is_told)
            for connection in other.connections:
                connection.break_off("was broken by the end of its server")

    def take_away(self):
        """Let the store start anew, while nobody can reach it."""
        self.server.forget_watches()
        for node in self._history.living:
            self.cut(node)
            for connection in node.connections:
                connection.restart()

    def cut(self, node):
        """Let nothing pass between a node and the store."""
        for connection in node.connections:
            connection.cut()

    def heal(self, node):
        """Let all pass again."""
        if not node.is_dead and any(connection.is_cut for connection in node.connections):
            self._history.tell(node, "can reach the store again")
            for connection in node.connections:
                connection.heal()

    def is_reached(self, _node, _server):
        """Return whether messages pass that are not cut off."""
        return self._is_served

    def refresh(self):
        """Take note that a machine stands still, or goes on: it is no concern of this store."""

    def is_host(self, node):
        """Return whether the store lives on this node's machine."""
        return self._plan.has_host and node is self._history.nodes[0]

    def open(self, node):
        """Return a connection of a node."""
        if not self._is_served:
            node.has_lost_store = True
            raise RendezvousConnectionError("nobody serves the simulated store any more")
        connection = self._make_connection(self.server, node, self._history.faults)
        node.connections.append(connection)
        return connection


def is_common_round(witness, nodes, limits):
    """Return whether nodes of one store are in a running round, or beside it for want of room."""
    latest = witness.latest
    if latest is None or latest.verdict is not None:
        return False
    running = [node for node in nodes if node.place and node.place.round == latest.number]
    # A node that has finished may go, or come back and wait: the others can do without it.
    gone = [
        member
        for rank, member in enumerate(latest.members)
        if rank in latest.marked and member not in running
    ]
    if len(running) + len(gone) != len(latest.members):
        return False
    spares = set(nodes) - set(running) - set(gone)
    if not spares <= set(witness.round(latest.number + 1).sitting.values()):
        return False
    wanted = min(len(nodes), limits.max_nodes)
    return len(running) == wanted or bool(latest.marked)
