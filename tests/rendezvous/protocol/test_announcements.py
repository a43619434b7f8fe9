"""When people are told of a wait: histories, written down as data."""

import pytest
from elrun.rendezvous.protocol.announcements import Announcement, next_check_s, should_announce

FIRST_S = 10


def told(history):
    """Return when people are told, if it is looked so often and that is found."""
    announcements, last = [], None
    for waited_s, what in history:
        if should_announce(what, waited_s, last, first_s=FIRST_S):
            last = Announcement(what, waited_s)
            announcements.append(waited_s)
    return announcements


def steady(what, until, step=1):
    return [(second, what) for second in range(0, until, step)]


HISTORIES = {
    "a short wait": (steady("1 of 3", 10), []),
    "a wait that is short, and of which nothing is known": (steady("", 1000), []),
    "a long wait": (steady("1 of 3", 1000), [10, 30, 60, 120, 300]),
    "a long wait that is looked at now and then": (
        steady("1 of 3", 1000, step=7),
        [14, 35, 63, 126, 301],
    ),
    "somebody comes": ([*steady("1 of 3", 20), (20, "2 of 3"), (21, "2 of 3")], [10, 20]),
    "several come one after the other": (
        [*steady("1 of 9", 15), (15, "2 of 9"), (16, "3 of 9"), (17, "4 of 9"), (20, "5 of 9")],
        [10, 15, 20],
    ),
    "somebody comes before anybody has to know": (
        [*steady("1 of 3", 5), *[(second, "2 of 3") for second in range(5, 29)]],
        [10],
    ),
}


@pytest.mark.parametrize(("history", "expected"), HISTORIES.values(), ids=HISTORIES)
def test_people_are_told_at_first_of_changes_and_now_and_then(history, expected):
    """Not of a wait that is soon over, nor twice within moments."""
    assert expected == told(history)


def test_a_wait_is_looked_at_when_people_may_have_to_be_told():
    """At first often, and then more and more seldom; but never later than a reminder is due."""
    looks = [0.0]
    while looks[-1] < 300:
        looks.append(next_check_s(looks[-1], first_s=FIRST_S))

    assert [10, 15, 20, 25, 30] == looks[1:6]
    assert {30, 60, 120, 300} <= set(looks)
    assert 40 > len(looks)
