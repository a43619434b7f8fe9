"""What a failure needs is loaded before there is one."""

from elrun.agent.elastic.readiness import LIVED_S, Readiness


class World:
    """A clock that the test moves, and how often was loaded."""

    def __init__(self):
        self.now, self.loads = 100.0, 0

    def clock(self):
        return self.now

    def load(self):
        self.loads += 1


def test_it_is_loaded_once_when_workers_have_lived_for_a_second():
    """The loop wakes for that, and never again."""
    world = World()
    readiness = Readiness(world.load, world.clock)

    before = readiness.wakes().within_s
    readiness.begin_attempt()
    at_start = readiness.wakes().within_s
    readiness.tick()
    loads = world.loads
    world.now += LIVED_S
    readiness.tick()
    readiness.end_attempt()
    readiness.begin_attempt()

    assert (None, LIVED_S, 0) == (before, at_start, loads)
    assert (1, None) == (world.loads, readiness.wakes().within_s)


def test_nothing_is_loaded_beside_a_restart():
    """An attempt that died at once costs its successor nothing."""
    world = World()
    readiness = Readiness(world.load, world.clock)

    readiness.begin_attempt()
    readiness.end_attempt()
    world.now += LIVED_S
    readiness.tick()

    assert (0, None) == (world.loads, readiness.wakes().within_s)


def test_an_agent_without_descriptors_goes_on():
    """A failure will load them, or say what is missing."""
    world = World()

    def fail():
        world.loads += 1
        raise OSError(24, "Too many open files")

    readiness = Readiness(fail, world.clock)
    readiness.begin_attempt()
    world.now += LIVED_S
    readiness.tick()
    readiness.tick()

    assert 1 == world.loads
