"""A node's heartbeat: its steps, by a clock that the test moves."""

import threading

import pytest
from elrun.rendezvous.liveness.heartbeat import Heartbeat
from elrun.rendezvous.protocol.timing import Timing
from elrun.rendezvous.stores.memory import MemoryStore

TIMING = Timing(heartbeat_s=60, patience_s=240)
JOIN_S = 30


class Clock:
    """Shows what the test says."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture(name="clock")
def _clock():
    return Clock()


@pytest.fixture(name="heartbeat")
def _heartbeat(memory, clock):
    """Return a heartbeat at 'mine'; its thread waits for a minute, so the tests make the steps."""
    heartbeat = Heartbeat(lambda: memory, TIMING, clock)
    heartbeat.beat_at("mine")
    yield heartbeat
    heartbeat.stop()


def steps_until(heartbeat, clock, end, each=lambda _: None):
    """Make steps when they are due."""
    while clock.now <= end:
        each(clock.now)
        clock.now += max(heartbeat.step(), 1)


def heart_threads():
    return [each for each in threading.enumerate() if each.name == "elrun-heartbeat"]


def test_each_beat_differs_from_the_one_before(memory, heartbeat, clock):
    """That is all that a beat says."""
    clock.now = 60
    heartbeat.step()
    (first,) = memory.get(["mine"])
    clock.now = 120
    heartbeat.step()
    (second,) = memory.get(["mine"])

    assert first is not None
    assert first != second


def test_there_is_one_beat_an_interval(memory, heartbeat, clock):
    """A step before its time writes nothing, and says how long it is until the next."""
    clock.now = 50

    assert 10 == heartbeat.step()
    assert [None] == memory.get(["mine"])


def test_a_new_key_ends_the_beats_at_the_old_one(memory, heartbeat, clock):
    """A node has one beat."""
    heartbeat.beat_at("new")
    clock.now = 60
    heartbeat.step()
    old, new = memory.get(["mine", "new"])

    assert (None, True) == (old, new is not None)


def test_silence_is_told(heartbeat, clock):
    """Who doesn't beat for as long as the patience lasts is told of, who does is not."""
    told = []
    heartbeat.watch(["silent", "alive"], told.append)
    store = heartbeat._open_store()
    steps_until(heartbeat, clock, 300, lambda now: store.set({"alive": b"%d" % now}))

    assert {frozenset(["silent"])} == set(told)
    assert {"silent"} == heartbeat.silent()


def test_silence_outlasts_a_change_of_listeners(memory, heartbeat, clock):
    """Who listens to a node in another matter knows what it has heard so far."""
    heartbeat.watch(["silent"])
    steps_until(heartbeat, clock, 300)
    heartbeat.watch(["silent", "other"])

    assert {"silent"} == heartbeat.silent()


def test_a_heart_at_rest_has_no_thread():
    """Nothing goes on after the end of a run."""
    heartbeat = Heartbeat(lambda: None, TIMING)
    before = heart_threads()
    heartbeat.beat_at("key")
    (thread,) = set(heart_threads()) - set(before)
    heartbeat.stop()
    thread.join(JOIN_S)

    assert not thread.is_alive()


def test_a_heart_goes_on_over_a_new_connection_when_its_own_breaks(memory):
    """The store may be well: a node that fell silent for good would be thrown out, or deaf."""
    broken = MemoryStore()
    broken.lose()
    stores = iter([broken])
    heartbeat = Heartbeat(lambda: next(stores, memory), Timing(heartbeat_s=0.01))
    heartbeat.beat_at("key")
    beat = memory.wait(["key"], JOIN_S)
    heartbeat.stop()

    assert beat is not None
