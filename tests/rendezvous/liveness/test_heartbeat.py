"""A node's heartbeat: its steps, by a clock that the test moves."""

import pytest
from elrun.rendezvous.api.handler import Placement, RendezvousStoreInfo
from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.liveness.heartbeat import Heartbeat
from elrun.rendezvous.liveness.round_watch import watch_members
from elrun.rendezvous.protocol.keys import RoundKeys, RunKeys
from elrun.rendezvous.protocol.timing import Timing
from elrun.rendezvous.stores.steps import Asking, perform, sleep

TIMING = Timing(heartbeat_s=60, patience_s=240)


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
    """Return a heartbeat at 'mine'; the tests make the steps."""
    heartbeat = Heartbeat(lambda: Asking(memory), TIMING, clock, lambda _: None)
    heartbeat.beat_at("mine")
    return heartbeat


def steps_until(heartbeat, clock, end, each=lambda _: None):
    """Make steps when they are due."""
    while clock.now <= end:
        each(clock.now)
        clock.now += max(perform(heartbeat.step()), 1)


def test_each_beat_differs_from_the_one_before(memory, heartbeat, clock):
    """That is all that a beat says."""
    clock.now = 60
    perform(heartbeat.step())
    (first,) = memory.get(["mine"])
    clock.now = 120
    perform(heartbeat.step())
    (second,) = memory.get(["mine"])

    assert first is not None
    assert first != second


@pytest.mark.parametrize("rank", [2, 4999, 9999])
def test_a_member_of_a_large_round_makes_few_keys(heartbeat, memory, monkeypatch, rank):
    """Ten thousand members that each make the keys of all would be a hundred million."""
    made, beat = [], RoundKeys.beat
    monkeypatch.setattr(RoundKeys, "beat", lambda *at: made.append(at) or beat(*at))
    store = RendezvousStoreInfo("host", 1)
    place = Placement(0, rank, 10_000, rank, 10_000, rank, 10_000, 0, store)

    watch_members(
        heartbeat, Asking(memory), RunKeys("run").round(0), place, TIMING, lambda verdict: iter(())
    )

    assert len(made) == 2  # its own, and that of the member before it


def test_there_is_one_beat_an_interval(memory, heartbeat, clock):
    """A step before its time writes nothing, and says how long it is until the next."""
    clock.now = 50

    assert 10 == perform(heartbeat.step())
    assert [None] == memory.get(["mine"])


def test_a_new_key_ends_the_beats_at_the_old_one(memory, heartbeat, clock):
    """A node has one beat."""
    heartbeat.beat_at("new")
    clock.now = 60
    perform(heartbeat.step())
    old, new = memory.get(["mine", "new"])

    assert (None, True) == (old, new is not None)


def test_silence_is_told(memory, heartbeat, clock):
    """Who doesn't beat for as long as the patience lasts is told of, who does is not."""
    told = []
    heartbeat.watch(["silent", "alive"], lambda silent: told.append(silent) or ())
    steps_until(heartbeat, clock, 300, lambda now: memory.set({"alive": b"%d" % now}))

    assert {frozenset(["silent"])} == set(told)
    assert {"silent"} == heartbeat.silent()


def test_silence_outlasts_a_change_of_listeners(memory, heartbeat, clock):
    """Who listens to a node in another matter knows what it has heard so far."""
    heartbeat.watch(["silent"])
    steps_until(heartbeat, clock, 300)
    heartbeat.watch(["silent", "other"])

    assert {"silent"} == heartbeat.silent()


def test_a_heart_at_rest_ends(memory, clock):
    """Nothing goes on after the end of a run."""
    begun = []
    heartbeat = Heartbeat(lambda: Asking(memory), TIMING, clock, begun.append)
    heartbeat.beat_at("key")
    (steps,) = begun

    assert sleep(60) == next(steps)
    heartbeat.stop()
    with pytest.raises(StopIteration):
        next(steps)


def test_a_heart_goes_on_over_a_new_connection_when_its_own_breaks(memory, clock):
    """The store may be well: a node that fell silent for good would be thrown out, or deaf."""
    begun = []
    heartbeat = Heartbeat(lambda: Asking(memory), TIMING, clock, begun.append)
    heartbeat.beat_at("key")
    (steps,) = begun
    next(steps)
    clock.now = 60

    assert "exchange" == next(steps).name
    assert sleep(60) == steps.throw(RendezvousConnectionError("lost"))
    clock.now = 120
    assert ({"key": b"2"}, ()) == next(steps).args
