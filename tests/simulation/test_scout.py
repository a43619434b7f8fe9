"""The scout, which looks for the others while a node waits: when it may take it elsewhere."""

import pytest
from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.node.entry import enter_run
from elrun.rendezvous.node.store_session import StoreSession
from elrun.rendezvous.protocol.keys import RunKeys
from elrun.rendezvous.stores.memory import MemoryStore
from elrun.rendezvous.stores.store import Connection
from simulator.stand_ins import simulated_machines
from simulator.world import Machine, World

RUN = RunKeys("run")
A_LOOK_S = 2.0
A_MOMENT_S = 1.0


class Elsewhere:
    """Another endpoint, where the run has come further; to choose it takes a moment."""

    at = 0

    def __init__(self, world):
        self.world = world
        self.chosen = []

    def survey(self):
        store = MemoryStore()
        enter_run(store, RUN, None, forming=7)
        yield 1, store

    def choose(self, place):
        self.world.running.sleep(A_MOMENT_S)
        self.chosen.append(place)


@pytest.mark.parametrize(
    ("wait_s", "is_there_still"),
    [(A_LOOK_S - A_MOMENT_S / 2, True), (A_LOOK_S + A_MOMENT_S / 2, False)],
)
def test_a_wait_is_over_before_the_scout_goes_or_after(wait_s, is_there_still):
    """A node that has a place in a round is not taken away from it a moment later."""
    world, seen, told = World(1), [], []
    elsewhere = Elsewhere(world)

    def wait_for_others():
        session = StoreSession(
            RUN, lambda _: Connection(MemoryStore(), "here", moves=elsewhere), None
        )
        store = session.open().store
        with session.scouting(lambda: told.append(is_within_reach(store))):
            world.running.sleep(wait_s)
        seen.append(is_within_reach(store))
        world.running.sleep(10 * A_LOOK_S)
        seen.append(is_within_reach(store))

    with simulated_machines(world):
        machine = Machine(world, "node")
        machine.spawn(wait_for_others)
        world.run_until(20 * A_LOOK_S)
        machine.kill()

    assert [is_there_still] * 2 == seen
    assert bool(elsewhere.chosen) is not is_there_still
    assert [True] * len(elsewhere.chosen) == told  # it leaves its seats while it can


def is_within_reach(store):
    """Return whether a connection is open."""
    try:
        store.get([])
    except RendezvousConnectionError:
        return False
    return True
