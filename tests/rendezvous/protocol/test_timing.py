"""The settings of a node's waits."""

import pytest
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.protocol.timing import (
    Timing,
    changed_settings,
    limit_in_words,
    seconds_in_words,
    timing_of,
)


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


@pytest.mark.parametrize(
    ("given", "number", "limit"),
    [
        ("inf", "inf", "as long as it takes"),
        ("1000000", "1000000", "for 1000000 s"),
        ("0.25", "0.25", "for 0.25 s"),
    ],
)
def test_a_time_is_shown_as_it_was_given(given, number, limit):
    """Never as a power of ten, and ``inf`` is no number of seconds."""
    timing = timing_of(RendezvousParameters("c10d", "", "run", 1, 1, join_timeout=given))
    seconds = timing.join_timeout_s

    assert (number, limit) == (seconds_in_words(seconds), limit_in_words(seconds))
    assert {"--rdzv-conf join_timeout": number} == changed_settings(
        Timing(join_timeout_s=timing.join_timeout_s)
    )
