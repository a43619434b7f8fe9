"""What a failure needs is loaded, and the kernel's log is read, before there is one."""

from elrun.agent.elastic.readiness import LIVED_S, Readiness


class Log:
    """A log of some pieces, of which the last one ends it."""

    def __init__(self, pieces):
        self.pieces = pieces

    def read_on(self, _):
        self.pieces -= 1
        return self.pieces <= 0


class World:
    """A clock that the test moves, how often was loaded, and a log of the kernel's."""

    def __init__(self, pieces=1):
        self.now, self.loads = 100.0, 0
        self.log = Log(pieces)

    def clock(self):
        return self.now

    def load(self):
        self.loads += 1

    def readiness(self, load=None):
        return Readiness(self, load or self.load, self.clock)


def tick_until_idle(readiness):
    ticks = 0
    while readiness.wakes().within_s == 0:
        readiness.tick()
        ticks += 1
    return ticks


def test_it_is_loaded_once_when_workers_have_lived_for_a_moment():
    """The loop wakes for that, and then sleeps until the next attempt has lived so long."""
    world = World()
    readiness = world.readiness()

    before = readiness.wakes().within_s
    readiness.begin_attempt()
    at_start = readiness.wakes().within_s
    readiness.tick()
    loads = world.loads
    world.now += LIVED_S
    ticks = tick_until_idle(readiness), readiness.wakes().within_s
    readiness.end_attempt()
    readiness.begin_attempt()
    world.now += LIVED_S
    tick_until_idle(readiness)

    assert (None, LIVED_S, 0) == (before, at_start, loads)
    assert (2, None) == ticks
    assert 1 == world.loads


def test_the_log_is_read_piece_by_piece():
    """A log of fifty thousand records must not hold up the loop."""
    world = World(pieces=7)
    readiness = world.readiness()
    readiness.begin_attempt()
    world.now += LIVED_S

    assert (1 + 7, 0) == (tick_until_idle(readiness), world.log.pieces)


def test_a_log_without_an_end_is_left():
    """What the kernel writes as fast as it is read, or no kernel writes."""
    world = World(pieces=1_000_000)
    readiness = world.readiness()
    readiness.begin_attempt()
    world.now += LIVED_S

    assert 1_000 > tick_until_idle(readiness)


def test_nothing_is_loaded_beside_a_restart():
    """An attempt that died at once costs its successor nothing."""
    world = World()
    readiness = world.readiness()

    readiness.begin_attempt()
    readiness.end_attempt()
    world.now += LIVED_S
    readiness.tick()

    assert (0, 1, None) == (world.loads, world.log.pieces, readiness.wakes().within_s)


def test_an_agent_without_descriptors_goes_on():
    """A failure will load them, or say what is missing."""
    world = World()

    def fail():
        world.loads += 1
        raise OSError(24, "Too many open files")

    readiness = world.readiness(fail)
    readiness.begin_attempt()
    world.now += LIVED_S
    readiness.tick()
    readiness.tick()

    assert (1, None) == (world.loads, readiness.wakes().within_s)
