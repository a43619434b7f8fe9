"""Nodes as threads of the test: each drives a real handler over one store that they share."""

import socket
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field

from elrun.rendezvous.api.handler import NodeProfile, Verdict, VerdictKind
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.node.rendezvous import RoundRendezvous
from elrun.rendezvous.protocol.timing import Timing
from elrun.rendezvous.stores.server.client import StoreClient
from elrun.rendezvous.stores.server.dial import shake_hands
from elrun.rendezvous.stores.server.guests import Admitted
from elrun.rendezvous.stores.server.hello import Hello
from elrun.rendezvous.stores.server.line import Line
from elrun.rendezvous.stores.signed import Secret, SignedStore
from elrun.rendezvous.stores.store import Connection

PATIENCE_S = 30
# A last call and a join timeout that no test lives to see; tests that need one shorten it.
# So are heartbeats.
TIMING = Timing(60, 60, deputy_s=60, straggler_s=60, leave_s=0.5, heartbeat_s=60, patience_s=240)


@dataclass
class TestNode:
    """One node; ``join`` goes on in a thread, as in an agent."""

    __test__ = False

    handler: RoundRendezvous
    store: object
    changed: threading.Event = field(default_factory=threading.Event)

    def join(self):
        future = Future()

        def run():
            try:
                future.set_result(self.handler.next_rendezvous())
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return future

    def await_verdict(self):
        while (verdict := self.handler.verdict()) is None:
            assert self.changed.wait(PATIENCE_S), "no verdict came"
            self.changed.clear()
        return verdict


class Job:
    """Makes the nodes of one job, and brings them to where a test begins."""

    def __init__(self, connect):
        self.connect = connect
        self.nodes = []

    def node(
        self,
        limits=(2, 2),
        *,
        run_id="run",
        host=False,
        workers=1,
        role="default",
        max_restarts=0,
        store=None,
        secret=None,
        rank=None,
        **timing,
    ):
        store = store or self.connect()
        config = {"rank": rank, **({"secret": Secret(secret)} if secret else {})}
        handler = RoundRendezvous(
            RendezvousParameters("memory", "", run_id, *limits, **config),
            lambda _: Connection(store, "127.0.0.1", host),
            TIMING._replace(**timing),
        )
        handler.describe(NodeProfile(workers, role, max_restarts))
        node = TestNode(handler, store)
        handler.subscribe(node.changed.set)
        self.nodes.append(node)
        return node

    def some(self, count, limits=(2, 2), **options):
        return [self.node(limits, **options) for _ in range(count)]

    def rendezvous(self, nodes):
        """Let all join; return their placements in the order of the nodes."""
        return placements([node.join() for node in nodes])

    def running(self, count, limits, **options):
        """Return nodes, by group rank, whose first round is running."""
        nodes = self.some(count, limits, **options)
        ranks = [place.group_rank for place in self.rendezvous(nodes)]
        return [node for _, node in sorted(zip(ranks, nodes, strict=True), key=lambda p: p[0])]

    def close(self):
        for node in self.nodes:
            node.handler.shutdown()
        for node in self.nodes:
            node.store.close()  # of a node that has never joined, too


def placements(joins):
    return [join.result(PATIENCE_S).placement for join in joins]


def failed(rank=0, **details):
    return Verdict(VerdictKind.WORKER_FAILED, rank, f"node {rank} failed", details)


def break_connection(handler):
    """End the connection of a node that lives on."""
    handler._resources.store(handler._machine.session.connection.store).close()


def silence(handler):
    """Let a node beat no more."""
    handler._machine.heartbeat.stop()


class AllGuests:
    """Lets everybody in, for ever; ``gone`` is set when one leaves."""

    def __init__(self):
        self.gone = threading.Event()

    def admit(self, hello, client, mark, now):
        return Admitted()

    def hear(self, client, now):
        pass

    def leave(self, client):
        self.gone.set()

    def are_missing(self, now):
        return True

    def changes_in_s(self, now):
        return None


HELLO = Hello("run", "host", node_rank=0, nodes=1)


class ServerClients:
    """Opens connections to a store server."""

    def __init__(self, server):
        self.server = server

    def connect(self):
        mine, its = socket.socketpair()
        self.server.adopt(its)
        return StoreClient(Line(shake_hands(mine, HELLO, PATIENCE_S), "the test's store"))


class SignedClients:
    """Opens connections to one store for those who know a secret."""

    def __init__(self, store, secret=b"open sesame"):
        self.store = store
        self.secret = Secret(secret)

    def connect(self):
        return SignedStore(self.store.connect(), self.secret)


def kinds(nodes):
    return [node.await_verdict().kind for node in nodes]


def await_seats(node, keys, count):
    """Return once so many nodes have written their records."""
    assert node.store.wait([keys.node(seat) for seat in range(count)], PATIENCE_S) is not None
