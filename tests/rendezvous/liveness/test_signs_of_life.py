"""Who is alive, asked before a failure ends the job."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from elrun.rendezvous.api.handler import Placement, RendezvousStoreInfo
from elrun.rendezvous.liveness.peers import await_signs_of_life
from elrun.rendezvous.protocol.keys import RunKeys
from elrun.rendezvous.protocol.timing import Timing
from elrun.rendezvous.stores.steps import Asking, perform

KEYS = RunKeys("run").round(0)
TIMING = Timing(heartbeat_s=1, patience_s=4)
PLACE = Placement(0, 0, 3, 0, 3, 0, 3, 0, RendezvousStoreInfo("here", 1))
PATIENCE_S = 30


class World:
    """A store whose members beat while somebody waits, and a clock that goes by that."""

    def __init__(self, memory, alive):
        self.memory = memory
        self.alive = alive
        self.now = 0.0
        self.looks = 0
        memory.set({KEYS.beat(rank): b"0" for rank in range(3)})

    def get(self, keys):
        return self.memory.get(keys)

    def wait(self, keys, timeout_s):
        self.now += timeout_s
        self.looks += 1
        self.memory.set({KEYS.beat(rank): b"%d" % self.looks for rank in self.alive})
        return self.memory.wait(keys, 0)

    def clock(self):
        return self.now


def call(world):
    perform(await_signs_of_life(Asking(world), KEYS, PLACE, TIMING, world.clock))
    return world.now


def test_it_takes_a_heartbeat_if_all_live(memory):
    """A failure is told of at once but for that."""
    assert call(World(memory, {0, 1, 2})) == pytest.approx(1.2)


def test_who_is_silent_is_waited_for(memory):
    """As long as it takes until that counts as lost; no longer."""
    assert 4 < call(World(memory, {0, 1})) < 7


def test_a_verdict_ends_the_wait(memory):
    """Somebody has missed the silent one already."""
    world = World(memory, {0, 1})
    memory.set({KEYS.verdict: b"{}"})

    assert call(world) == pytest.approx(1.2)


def test_a_job_that_needs_all_its_nodes_does_not_ask(memory_job, memory):
    """It could not go on without one, so the failure is told of at once."""
    nodes = memory_job.some(2)
    memory_job.rendezvous(nodes)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(nodes[0].handler.await_signs_of_life).result(PATIENCE_S) is None
