"""Runs that go on in another store when theirs is lost."""

import threading
import time
from types import SimpleNamespace

import pytest
from elrun.rendezvous.api.handler import NodeProfile, Verdict, VerdictKind
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.errors import (
    RendezvousConnectionError,
    RendezvousGracefulExitError,
    RendezvousRefusalError,
)
from elrun.rendezvous.node.rendezvous import RoundRendezvous
from elrun.rendezvous.node.store_session import enter_run
from elrun.rendezvous.protocol.keys import RunKeys
from elrun.rendezvous.protocol.timing import Timing
from elrun.rendezvous.stores.memory import MemoryStore
from elrun.rendezvous.stores.server.endpoints import Succession
from elrun.rendezvous.stores.steps import Asking, perform
from elrun.rendezvous.stores.store import Connection
from round_kit import PATIENCE_S, TestNode, break_connection
from server_kit import Listening

RUN = RunKeys("run")
TIMING = Timing(
    join_timeout_s=PATIENCE_S,
    last_call_s=PATIENCE_S,
    survivor_s=PATIENCE_S,
    deputy_s=0.2,
    leave_s=0.1,
    heartbeat_s=0.05,
    patience_s=0.5,
    scout_s=0.05,
)


class Network:
    """Three endpoints, each with a store while somebody serves there, and cables that break."""

    def __init__(self):
        self.stores = {}
        self.changed = threading.Condition()
        self.cut = set()
        self.nodes = []

    def node(self, home, limits=(2, 3), clock=time.monotonic, **timing):
        """Return a node that lives at an endpoint and can serve there."""
        places = [Place(self, number, home) for number in range(3)]
        handler = RoundRendezvous(
            RendezvousParameters("memory", "", "run", *limits),
            Succession(places, PATIENCE_S, take_over_s=PATIENCE_S),
            TIMING._replace(**timing),
            clock,
        )
        handler.describe(NodeProfile(1))
        node = TestNode(handler, None)
        handler.subscribe(node.changed.set)
        self.nodes.append(node)
        return node

    def store_at(self, number):
        """Let somebody serve at an endpoint."""
        store = MemoryStore()
        with self.changed:
            self.stores[number] = store
            self.changed.notify_all()
        return store

    def lose(self, number):
        """Let the node at an endpoint die."""
        self.stores.pop(number).lose()


class Clock:
    """A clock that a test can put forward."""

    def __init__(self):
        self.ahead_s = 0.0

    def __call__(self):
        return time.monotonic() + self.ahead_s


class Place:
    """One endpoint, as seen from a node that lives at one of them."""

    def __init__(self, network, number, home):
        self.network = network
        self.number = number
        self.home = home
        self.is_here = number == home

    def join(self, timeout_s):
        is_cut = (self.home, self.number) in self.network.cut
        if self.number not in self.network.stores or is_cut:
            raise RendezvousConnectionError(f"endpoint {self.number}: nobody after {timeout_s:g} s")
        return Connection(self.network.stores[self.number].connect(), "127.0.0.1")

    def host(self):
        store = self.network.store_at(self.number)
        return Connection(store.connect(), "127.0.0.1", is_host=True)


@pytest.fixture(name="network")
def _network():
    network = Network()
    yield network
    for node in network.nodes:
        node.handler.shutdown()


@pytest.fixture(name="server")
def _server():
    server = Listening()
    yield server
    server.close()


def meet(nodes):
    """Return the placements of nodes that join at once."""
    joins = [node.join() for node in nodes]
    return [join.result(PATIENCE_S).placement for join in joins]


def restart(nodes):
    """Let a worker fail, and all meet again."""
    nodes[0].handler.conclude(Verdict(VerdictKind.WORKER_FAILED, 0))
    for node in nodes:
        node.await_verdict()
    meet(nodes)


def test_the_survivors_meet_at_the_next_endpoint(network):
    """In their old order, in the next round, and it costs no restart."""
    nodes = [network.node(home) for home in range(3)]
    before = meet(nodes)
    network.lose(0)
    survivors = nodes[1:]
    verdicts = [node.await_verdict() for node in survivors]
    after = meet(survivors)

    assert {VerdictKind.NODE_LOST} == {verdict.kind for verdict in verdicts}
    assert [1] == list(network.stores)
    order = sorted(range(2), key=lambda index: before[1:][index].group_rank)
    assert order == sorted(range(2), key=lambda index: after[index].group_rank)
    assert [(1, 2, 0)] * 2 == [
        (place.round, place.group_world_size, place.restart_count) for place in after
    ]


def test_a_store_that_never_answers_a_node_that_it_let_in_does_not_end_the_node(network):
    """Its host fell silent between the welcome and the first answer: the node looks elsewhere."""
    network.store_at(0).lose()
    network.store_at(1)
    nodes = [network.node(home, (2, 2)) for home in (1, 2)]

    assert [2, 2] == [place.group_world_size for place in meet(nodes)]


def test_a_node_that_no_store_answers_gives_up_in_the_time_for_joining(network):
    """Each endpoint lets it in and answers nothing; the error is the store's."""
    for number in range(3):
        network.store_at(number).lose()
    node = network.node(2, join_timeout_s=0.1)

    with pytest.raises(RendezvousConnectionError, match="memory store was lost"):
        node.join().result(PATIENCE_S)


def test_a_store_that_refuses_a_node_ends_it_at_once(network, server):
    """A real store that is full says so; the node would hear the same again and again."""
    server.server._connections._answers._table._max_keys = 0
    network.stores[0] = SimpleNamespace(connect=server.client)
    node = network.node(2)

    with pytest.raises(RendezvousRefusalError, match="refused a request: the store is full"):
        node.join().result(PATIENCE_S / 2)


def test_a_store_that_stays_silent_is_told_again_after_a_while(network, caplog):
    """A person who has just begun to read the log learns what the node waits for."""
    network.store_at(0).lose()
    clock = Clock()
    node = network.node(2, (2, 2), clock=clock, join_timeout_s=1000.0)
    joining = node.join()
    told = []
    for count, ahead_s in enumerate((0.0, 31.0, 61.0), 1):
        clock.ahead_s = ahead_s
        while len(told) < count:
            time.sleep(0.01)
            told = [each for each in caplog.messages if "looking at the other endpoints" in each]
    network.store_at(0)
    network.node(1, (2, 2)).join()

    assert joining.result(PATIENCE_S)
    assert 3 == len(told)


def test_the_restarts_that_were_spent_are_carried_over(network):
    """The budget is the job's, wherever it meets."""
    nodes = [network.node(home) for home in range(3)]
    meet(nodes)
    restart(nodes)
    network.lose(0)
    for node in nodes[1:]:
        node.await_verdict()

    assert [(2, 1)] * 2 == [(place.round, place.restart_count) for place in meet(nodes[1:])]


def test_a_failure_that_nobody_can_be_told_of_is_put_down_to_the_loss(network):
    """Workers fail when the host of the store dies, as their peers on it are gone, too."""
    nodes = [network.node(home) for home in range(3)]
    meet(nodes)
    network.lose(0)
    standing = nodes[1].handler.conclude(Verdict(VerdictKind.WORKER_FAILED, 1))

    assert VerdictKind.NODE_LOST == standing.kind


def test_a_node_that_has_finished_comes_along(network):
    """It can't know who else has finished: that stood in the store."""
    nodes = [network.node(home) for home in range(3)]
    meet(nodes)
    network.lose(0)
    nodes[1].handler.arrive()

    assert VerdictKind.NODE_LOST == nodes[1].handler.verdict().kind


def test_where_others_have_begun_anew_survivors_are_newcomers(network):
    """Whoever finds an empty store begins with round 0. The restarts are not forgotten."""
    nodes = [network.node(home) for home in range(3)]
    meet(nodes)
    restart(nodes)
    network.store_at(1)
    network.cut.add((None, 0))
    fresh = network.node(None)
    joining = fresh.join()
    assert network.stores[1].wait([RUN.round(0).node(0)], PATIENCE_S)
    network.lose(0)
    for node in nodes[1:]:
        node.await_verdict()
    joins = [node.join() for node in nodes[1:]]
    places = [join.result(PATIENCE_S).placement for join in (*joins, joining)]

    assert [(0, 1)] * 3 == [(place.round, place.restart_count) for place in places]
    assert [0, 1, 2] == sorted(place.group_rank for place in places)


def test_a_node_that_had_finished_comes_back_to_wait(network):
    """Until the others have finished, too."""
    nodes = [network.node(home) for home in range(3)]
    meet(nodes)
    nodes[1].handler.arrive()
    break_connection(nodes[1].handler)
    nodes[1].await_verdict()
    joining = nodes[1].join()
    for node in (nodes[0], nodes[2]):
        node.handler.arrive()

    assert VerdictKind.DONE == nodes[0].await_verdict().kind
    with pytest.raises(RendezvousGracefulExitError):
        joining.result(PATIENCE_S)


def test_who_is_alone_at_an_endpoint_goes_where_the_others_are(network):
    """A node that was cut off waits at its own endpoint until the cable is mended."""
    nodes = [network.node(home) for home in range(3)]
    meet(nodes)
    network.cut |= {(1, 0), (1, 2)}
    lonely = nodes[1]
    break_connection(lonely.handler)
    lonely.await_verdict()
    joining = lonely.join()
    others = [nodes[0], nodes[2]]
    for node in others:
        assert VerdictKind.NODE_LOST == node.await_verdict().kind
    meet(others)
    network.cut.clear()
    for node in others:
        assert VerdictKind.NODE_WAITING == node.await_verdict().kind
    places = meet(others)

    assert 3 == joining.result(PATIENCE_S).world_size
    assert [(2, 3)] * 2 == [(place.round, place.group_world_size) for place in places]


def test_a_round_that_nobody_brings_along_is_void(network):
    """The node that was to do so has announced it, and died: those who come begin without it."""
    perform(enter_run(Asking(network.store_at(0)), RUN, None, forming=4))
    nodes = [network.node(None, (2, 2), deputy_s=0.02) for _ in range(2)]

    assert [0, 1] == sorted(place.group_rank for place in meet(nodes))


def test_a_run_that_ended_while_a_node_was_cut_off_has_ended_for_it_too(network):
    """It had finished, or the run could not be done: its work is not to be done again."""
    nodes = [network.node(home, (1, 2)) for home in range(2)]
    ranks = [place.group_rank for place in meet(nodes)]
    break_connection(nodes[1].handler)
    nodes[1].await_verdict()
    verdict = Verdict(VerdictKind.DONE, ranks[0])
    assert verdict == nodes[0].handler.conclude(verdict)

    with pytest.raises(RendezvousGracefulExitError):
        nodes[1].handler.next_rendezvous()


def test_who_waits_goes_where_a_round_runs(network):
    """Those who run don't look out for others, however the endpoints are named."""
    nodes = [network.node(home, (2, 2)) for home in range(2)]
    meet(nodes)
    network.store_at(2)
    network.cut |= {(None, 0), (None, 1)}
    meet([network.node(None, (2, 2)) for _ in range(2)])
    network.cut |= {(1, 2)}
    network.lose(0)
    nodes[1].await_verdict()
    nodes[1].join()
    wait_for(network, RUN.round(1).node(0), at=1)
    network.cut.clear()

    assert network.stores[2].wait([RUN.round(1).node(0)], PATIENCE_S)


def test_a_spare_that_has_waited_for_long_moves_as_all_others_do(network):
    """Its time to find enough nodes begins when the round that it stood beside is over."""
    clock = Clock()
    nodes = [network.node(home, (2, 2)) for home in range(2)]
    meet(nodes)
    spare = network.node(2, (2, 2), clock=clock)
    joining = spare.join()
    while "waits as a spare" not in spare.handler.describe_wait():
        time.sleep(0.01)  # it has a seat a moment before it stands beside the round
    clock.ahead_s = 2 * PATIENCE_S
    network.lose(0)
    nodes[1].await_verdict()

    places = [join.result(PATIENCE_S).placement for join in (joining, nodes[1].join())]

    assert [2, 2] == [place.group_world_size for place in places]


def test_a_node_that_only_lost_its_connection_is_back_at_once(network):
    """The store is where it was; all form a new round."""
    nodes = [network.node(home, patience_s=PATIENCE_S) for home in (2, 1, 0)]
    meet(nodes)
    break_connection(nodes[0].handler)
    joins = [node.join() for node in nodes if node.await_verdict()]

    assert [3] * 3 == [join.result(PATIENCE_S).world_size for join in joins]


def test_a_node_that_comes_back_to_a_forming_round_leaves_its_old_seat(network):
    """It would be counted twice, and the round begin without a node that it needs."""
    first, second, third = [network.node(home, (3, 3)) for home in range(3)]
    joins = [first.join()]
    seats = RUN.round(0)
    wait_for(network, seats.node(0))
    joins.append(second.join())
    wait_for(network, seats.node(1))
    break_connection(second.handler)
    wait_for(network, seats.node(2))
    joins.append(third.join())
    places = [join.result(PATIENCE_S).placement for join in joins]

    assert [0, 1, 2] == sorted(place.group_rank for place in places)


def wait_for(network, key, at=0):
    """Wait until somebody serves at an endpoint, and a key is written there."""
    with network.changed:
        assert network.changed.wait_for(lambda: at in network.stores, PATIENCE_S)
    assert network.stores[at].wait([key], PATIENCE_S)


def test_a_run_that_has_no_other_place_ends_with_its_store():
    """The sentence is the store's."""
    store = MemoryStore()
    handler = RoundRendezvous(
        RendezvousParameters("memory", "", "run", 1, 1),
        lambda _: Connection(store, "127.0.0.1"),
        TIMING,
    )
    changed = threading.Event()
    handler.subscribe(changed.set)
    handler.next_rendezvous()
    store.lose()
    assert changed.wait(PATIENCE_S)

    with pytest.raises(RendezvousConnectionError, match="memory store was lost"):
        handler.verdict()
    handler.shutdown()
