"""The settings of a node's waits."""

import pytest
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.protocol.timing import timing_of


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (0.5, 2)),
        ({"heartbeat_interval": "2"}, (2, 8)),
        ({"heartbeat_patience": "5"}, (0.5, 5)),
        ({"heartbeat_interval": "0.1", "heartbeat_patience": "0.2"}, (0.1, 0.2)),
    ],
)
def test_interval_and_patience_can_be_set(settings, expected):
    """A longer interval alone brings its patience along."""
    timing = timing_of(RendezvousParameters("c10d", "", "run", 1, 1, **settings))

    assert expected == (timing.heartbeat_s, timing.patience_s)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"heartbeat_interval": "0"}, "heartbeat_interval=0"),
        ({"heartbeat_patience": "0.9"}, "at least twice"),
        ({"heartbeat_interval": "often"}, "heartbeat_interval=often"),
    ],
)
def test_a_patience_that_one_lost_beat_exhausts_is_refused(settings, words):
    """The message names the setting."""
    with pytest.raises(ValueError, match=words):
        timing_of(RendezvousParameters("c10d", "", "run", 1, 1, **settings))
