"""A node that gives up its seats while it is on its way into a round."""

import pytest
from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.liveness.heartbeat import Heartbeat
from elrun.rendezvous.liveness.round_watch import SpareWatch
from elrun.rendezvous.node.join import Join
from elrun.rendezvous.node.round_state import RoundState
from elrun.rendezvous.protocol.keys import RunKeys
from elrun.rendezvous.protocol.records import Limits, Node, NotTaken
from elrun.rendezvous.protocol.timing import Timing
from elrun.rendezvous.protocol.wire import read_node, write_place
from elrun.rendezvous.stores.memory import MemoryStore
from elrun.rendezvous.stores.steps import Asking, call, perform

RUN, TIMING = RunKeys("run"), Timing()
NODE = Node("node0", "::1", 9, 1, "default", Limits(2, 2))


@pytest.fixture(name="store")
def _store():
    return MemoryStore()


@pytest.fixture(name="join")
def _join(store):
    asking = Asking(store)
    heartbeat = Heartbeat(lambda: asking, TIMING, float, lambda _steps: None)
    watch = SpareWatch(heartbeat, TIMING, float)
    state = RoundState(heartbeat, lambda: False, lambda: None)
    return Join(asking, RUN, NODE, 0, TIMING, heartbeat, watch, float, state)


def go_on(steps, answer):
    """Carry out a procedure up to its first wait."""
    while (request := steps.send(answer)).name != "wait":
        answer = call(*request)


def test_a_seat_that_the_store_grants_while_the_node_leaves_is_given_up(store, join):
    """The others would count on the node, and lose it a moment after their round has begun."""
    entering = join.enter()
    seats = call(*next(entering))
    perform(join.leave())

    with pytest.raises(RendezvousConnectionError, match="given up its seats"):
        go_on(entering, seats)
    key = RUN.round(0).node(0)
    assert read_node(key, *store.get([key])).is_withdrawn


def test_a_node_that_has_left_takes_no_seat_of_the_next_round(store, join):
    """Its round is sealed without it, and that is what it wanted."""
    store.add(RUN.round(0).seats, 1)  # another node seals
    entering = join.enter()
    go_on(entering, None)
    perform(join.leave())

    with pytest.raises(RendezvousConnectionError, match="given up its seats"):
        go_on(entering, [write_place(NotTaken())])
    assert [None] == store.get([RUN.round(1).node(0)])
