"""Which of several endpoints a node goes to, and when it serves there itself."""

import threading

import pytest
from elrun.rendezvous.errors import RendezvousClosedError, RendezvousConnectionError
from elrun.rendezvous.stores.memory import MemoryStore
from elrun.rendezvous.stores.server.endpoints import STEP_S, TAKE_OVER_S, Succession
from elrun.rendezvous.stores.store import Connection

TIMEOUT_S = 600


class Network:
    """Endpoints by number: whether somebody serves there, and what nodes did."""

    def __init__(self):
        self.serving = set()
        self.done = []


class Place:
    """One endpoint, as seen from one node."""

    def __init__(self, network, number, *, is_here=False):
        self.network = network
        self.number = number
        self.is_here = is_here

    def join(self, timeout_s):
        assert timeout_s > 0
        if self.number not in self.network.serving:
            raise RendezvousConnectionError(f"endpoint {self.number}: nobody there")
        self.network.done.append(f"joined {self.number}")
        return Connection(MemoryStore(), "here")

    def host(self):
        if self.number in self.network.serving:
            return None
        self.network.serving.add(self.number)
        self.network.done.append(f"hosted {self.number}")
        return Connection(MemoryStore(), "here", is_host=True)


class Passing:
    """A clock, and an event that is waited for in its time; ``then`` happens on the way."""

    def __init__(self):
        self.now = 0.0
        self.then = {}
        self.is_stopped = False

    def clock(self):
        return self.now

    def wait(self, pause_s):
        self.now += pause_s
        for at in sorted(self.then):
            if at <= self.now:
                self.then.pop(at)()
        return self.is_stopped


@pytest.fixture(name="network")
def _network():
    return Network()


@pytest.fixture(name="passing")
def _passing():
    return Passing()


@pytest.fixture(name="node")
def _node(network, passing):
    """Make a node that knows three endpoints and lives at some of them."""

    def make(*at_home):
        places = [Place(network, number, is_here=number in at_home) for number in range(3)]
        return Succession(places, TIMEOUT_S, clock=passing.clock)

    return make


def test_the_first_endpoints_node_serves_at_once(node, network, passing):
    """A job begins without delay."""
    assert node(0)(passing).is_host
    assert (["hosted 0"], 0.0) == (network.done, passing.now)


def test_others_wait_for_the_first_one(node, network, passing):
    """Also those that could serve at a later endpoint."""
    passing.then[20.0] = lambda: network.serving.add(0)
    connection = node(1)(passing)

    assert (False, ["joined 0"]) == (connection.is_host, network.done)


def test_a_later_one_takes_over_if_the_first_does_not_come(node, network, passing):
    """A job begins, too, whose first node is broken."""
    connection = node(1)(passing)

    assert connection.is_host
    assert TAKE_OVER_S <= passing.now < TAKE_OVER_S + 2


def test_a_node_that_was_started_again_joins_those_who_moved(node, network, passing):
    """The first endpoint's node does not open a second store beside the one that is used."""
    network.serving.add(1)
    connection = node(0)(passing)

    assert (False, ["joined 1"]) == (connection.is_host, network.done)


def after_a_loss(succession, network, passing):
    """Return where a node goes that was at the first endpoint when that was lost."""
    network.serving.add(0)
    succession(passing)
    network.serving.clear()
    return succession(passing)


def test_after_a_loss_the_next_one_serves_at_once(node, network, passing):
    """The survivors lose no time."""
    connection = after_a_loss(node(1), network, passing)

    assert (True, ["joined 0", "hosted 1"], 0.0) == (
        connection.is_host,
        network.done,
        passing.now,
    )


def test_after_a_loss_the_one_after_next_waits_a_moment(node, network, passing):
    """So that not each survivor has a store of its own; but it serves if the next one is gone."""
    connection = after_a_loss(node(2), network, passing)

    assert connection.is_host
    assert STEP_S <= passing.now < STEP_S + 2


def test_a_node_that_only_lost_its_connection_comes_back(node, network, passing):
    """The endpoint is tried again, after the others."""
    network.serving.add(0)
    succession = node()
    succession(passing)
    succession(passing)

    assert ["joined 0", "joined 0"] == network.done


def test_the_survey_shows_where_else_somebody_serves(node, network, passing):
    """All but where the node is."""
    network.serving |= {0, 2}
    succession = node()
    succession(passing)

    assert [2] == [place for place, _ in succession.survey()]


def test_a_chosen_endpoint_is_tried_first(node, network, passing):
    """Whoever found the others goes where they are."""
    network.serving |= {0, 1, 2}
    succession = node()
    succession(passing)
    succession.choose(2)
    succession(passing)

    assert ["joined 0", "joined 2"] == network.done


def test_the_sentence_names_all_endpoints(node, passing):
    """And what was wrong with each."""
    with pytest.raises(RendezvousConnectionError, match=r"600 s: endpoint 0.*; endpoint 2: nobody"):
        node()(passing)


def test_a_node_that_leaves_tries_no_more(node, passing):
    """At once, not at the end of its time."""
    passing.is_stopped = True
    with pytest.raises(RendezvousClosedError):
        node()(passing)


def test_a_real_event_will_do(node, network):
    """The tests' one stands for it."""
    network.serving.add(0)

    assert node()(threading.Event()).moves is not None
