"""A node's heartbeat: its steps, by a clock that the test moves."""

import threading

import pytest
from elrun.rendezvous.liveness.heartbeat import Heart
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


@pytest.fixture(name="heart")
def _heart(memory, clock):
    """Return a heart that beats at 'mine'; its thread waits for a minute, and steps are made."""
    heart = Heart(lambda _: memory, TIMING, clock)
    heart.beat_at("mine")
    yield heart
    heart.rest()


def steps_until(heart, clock, end, each=lambda _: None):
    """Make steps when they are due."""
    while clock.now <= end:
        each(clock.now)
        clock.now += max(heart.step(), 1)


def heart_threads():
    return [each for each in threading.enumerate() if each.name == "elrun-heart"]


def test_each_beat_differs_from_the_one_before(memory, heart, clock):
    """That is all that a beat says."""
    clock.now = 60
    heart.step()
    (first,) = memory.get(["mine"])
    clock.now = 120
    heart.step()
    (second,) = memory.get(["mine"])

    assert first is not None
    assert first != second


def test_there_is_one_beat_an_interval(memory, heart, clock):
    """A step before its time writes nothing, and says how long it is until the next."""
    clock.now = 50

    assert 10 == heart.step()
    assert [None] == memory.get(["mine"])


def test_a_new_key_ends_the_beats_at_the_old_one(memory, heart, clock):
    """A node has one beat."""
    heart.beat_at("new")
    clock.now = 60
    heart.step()
    old, new = memory.get(["mine", "new"])

    assert (None, True) == (old, new is not None)


def test_silence_is_told(heart, clock):
    """Who doesn't beat for as long as the patience lasts is told of, who does is not."""
    told = []
    heart.listen_to(["silent", "alive"], told.append)
    store = heart._open_store(None)
    steps_until(heart, clock, 300, lambda now: store.set({"alive": b"%d" % now}))

    assert {frozenset(["silent"])} == set(told)
    assert {"silent"} == heart.silent()


def test_silence_outlasts_a_change_of_listeners(memory, heart, clock):
    """Who listens to a node in another matter knows what it has heard so far."""
    heart.listen_to(["silent"])
    steps_until(heart, clock, 300)
    heart.listen_to(["silent", "other"])

    assert {"silent"} == heart.silent()


def test_a_heart_at_rest_has_no_thread():
    """Nothing goes on after the end of a run."""
    heart = Heart(lambda _: None, TIMING)
    before = heart_threads()
    heart.beat_at("key")
    (thread,) = set(heart_threads()) - set(before)
    heart.rest()
    thread.join(JOIN_S)

    assert not thread.is_alive()


def test_a_heart_goes_on_over_a_new_connection_when_its_own_breaks(memory):
    """The store may be well: a node that fell silent for good would be thrown out, or deaf."""
    broken = MemoryStore()
    broken.lose()
    heart = Heart(lambda failed: memory if failed else broken, Timing(heartbeat_s=0.01))
    heart.beat_at("key")
    beat = memory.wait(["key"], JOIN_S)
    heart.rest()

    assert beat is not None
