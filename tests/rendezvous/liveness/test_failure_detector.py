"""Who has been silent for too long: histories of looks, written down as data."""

import pytest
from elrun.rendezvous.liveness.failure_detector import FailureDetector
from elrun.rendezvous.protocol.keys import GONE_BEAT

PATIENCE_S = 2.0
LONGEST_PAUSE_S = 0.75
GONE = GONE_BEAT.decode()


def judge_after(*looks):
    """Return a detector that has seen these: when it asked, and the beats, one letter a node."""
    detector = FailureDetector(PATIENCE_S, LONGEST_PAUSE_S)
    for look in looks:
        asked_at, beats, answered_at = look if len(look) == 3 else (*look, look[0])
        detector.observe(
            {name: beat.encode() or None for name, beat in beats.items()}, asked_at, answered_at
        )
    return detector


def steady(start, end, **beats):
    """Return looks every half second, at beats that don't change."""
    return [(step / 2, beats) for step in range(int(2 * start), int(2 * end) + 1)]


def slow_reads(count):
    """Return a first look, and then some that take the store long, each as soon as it counts."""
    looks = [(0, {"a": "1"})]
    for _ in range(count):
        asked_at = looks[-1][-1 if len(looks[-1]) == 3 else 0] + LONGEST_PAUSE_S
        looks.append((asked_at, {"a": "1"}, asked_at + 1))
    return looks


HISTORIES = {
    "at the first look": ([(9, {"a": "1"})], set()),
    "silent for less than the patience": (steady(0, 1.5, a="1"), set()),
    "silent for the patience": (steady(0, 2, a="1"), {"a"}),
    "changed a moment before": ([*steady(0, 1.5, a="1"), (2, {"a": "2"})], set()),
    "changed, and then silent": ([*steady(0, 1, a="1"), *steady(1.5, 3.5, a="2")], {"a"}),
    "came back": ([*steady(0, 3, a="1"), (3.5, {"a": "2"})], set()),
    "one of two": ([(t, {"a": "1", "b": str(t)}) for t in (0, 0.5, 1, 1.5, 2)], {"a"}),
    "several at once": (steady(0, 2, a="1", b="2"), {"a", "b"}),
    "never had a beat": (steady(0, 2, a=""), {"a"}),
    "a beat that goes back is a change": ([*steady(0, 1.5, a="2"), (2, {"a": "1"})], set()),
    "the detector was paused": ([(0, {"a": "1"}), (60, {"a": "1"})], set()),
    "the detector was paused again and again": (
        [(20 * n, {"a": "1"}) for n in range(3)],
        set(),
    ),
    "a detector that is always late": ([(20 * n, {"a": "1"}) for n in range(4)], {"a"}),
    "the store took its time": (
        [(0, {"a": "1"}, 0), (0.5, {"a": "1"}, 9), (9.5, {"a": "1"})],
        set(),
    ),
    "the store was away, and the others reach it later than the detector": (
        [*steady(0, 1.5, a="1"), (2, {"a": "1"}, 10), *steady(10.5, 11.5, a="1")],
        set(),
    ),
    "silent for long since the store is back": (
        [*steady(0, 1.5, a="1"), (2, {"a": "1"}, 10), *steady(10.5, 12, a="1")],
        {"a"},
    ),
    "silent for long before the store was away": (
        [*steady(0, 3, a="1"), (3.5, {"a": "1"}, 10)],
        set(),
    ),
    "somebody writes over its beat": ([*steady(0, 1, a="1"), *steady(1.5, 55, a="?")], set()),
    "somebody writes over its beat for ever": (
        [*steady(0, 1, a="1"), *steady(1.5, 63, a="?")],
        {"a"},
    ),
    "its beat is written over from the first look on": (steady(0, 55, a="?"), set()),
    "silent before and after its beat was written over": (
        [*steady(0, 1, a="1"), *steady(1.5, 9, a="?"), *steady(9.5, 10.5, a="1")],
        {"a"},
    ),
    "alive while its beat is written over now and then": (
        [(n / 2, {"a": "?" if n % 4 else str(n)}) for n in range(400)],
        set(),
    ),
    "a slow store has excused three times, and the patience is not over": (slow_reads(5), set()),
    "a slow store has excused three times, and the patience is over": (slow_reads(6), {"a"}),
    "a read that takes just the longest pause is no excuse": (
        [(0, {"a": "1"}), (0.5, {"a": "1"}, 1.25), *steady(1.5, 3, a="1")],
        {"a"},
    ),
    "its beat is written over for thirty patiences": (
        [(0, {"a": "1"}), *steady(0.5, 61.5, a="?")],
        set(),
    ),
    "its beat is written over for thirty patiences, and one more": (
        [(0, {"a": "1"}), *steady(0.5, 62, a="?")],
        {"a"},
    ),
    "the store says that it is gone": ([(0, {"a": "1"}), (0.5, {"a": GONE})], {"a"}),
    "the store says that it is gone, and it is back": (
        [(0, {"a": "1"}), (0.5, {"a": GONE}), (1, {"a": "2"})],
        set(),
    ),
    "a store that is always slow": (
        [(n, {"a": "1"}, n + 0.8) for n in range(20)],
        {"a"},
    ),
}


@pytest.mark.parametrize(("looks", "silent"), HISTORIES.values(), ids=HISTORIES)
def test_silence_is_judged_by_change(looks, silent):
    """A node is silent once its beat has been read without a change for the whole patience."""
    assert silent == judge_after(*looks).check()[0]


def test_a_judge_knows_when_to_look_again():
    """The next look is due when the one that is silent for longest has had its time."""
    detector = judge_after(*steady(0, 0.5, a="1"), (1, {"a": "1", "b": "1"}))

    assert 1.0 == detector.check()[1]


def test_a_node_that_is_silent_already_makes_no_look_due():
    """It would be due all the time."""
    detector = judge_after(*steady(0, 2, a="1"), (2.5, {"a": "1", "b": "1"}))

    assert PATIENCE_S == detector.check()[1]
    assert PATIENCE_S == judge_after(*steady(0, 2, a="1")).check()[1]


def test_who_is_forgotten_is_heard_afresh():
    """One that is listened to later again starts with a full patience."""
    detector = judge_after(*steady(0, 2, a="1", b="1"))
    detector.keep_only({"b"})
    detector.observe({"a": b"1", "b": b"1"}, 2.5, 2.5)

    assert {"b"} == detector.check()[0]
