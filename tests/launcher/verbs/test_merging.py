"""The lines of several ranks, in the order of the times with which they begin."""

import pytest
from elrun.launcher.verbs.merging import in_order_of_time


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (["10:00:01 a", "10:00:03 c"], ["10:00:02 b"], "abc"),
        (["2026-11-27T10:00:01.5 a"], ["2026-11-27 10:00:01,4 b"], "ba"),
        (["[10:00:02] a", "10:00:04 c"], ["10:00:03 b"], "abc"),
        (["10:00:01 a", "more a", "10:00:09 c"], ["10:00:02 b"], "aabc"),
        (["no time a"], ["10:00:00 b"], "ab"),
        (["10:00:05 a", "10:00:01 a"], ["10:00:04 b"], "baa"),
        (["a", "a"], ["b"], "aab"),
        ([], [], ""),
    ],
)
def test_lines_stand_in_the_order_of_their_times(one, other, expected):
    """A line without one stays behind the one before it, and a log in its own order."""
    found = "".join(line[-1] for _, line in in_order_of_time([("1", one), ("2", other)]))

    assert expected == found


def test_lines_of_one_moment_stand_in_the_order_of_the_logs():
    """Each with its source."""
    logs = [(rank, [f"10:00:00 {n}" for n in range(2)]) for rank in range(2)]

    assert [0, 0, 1, 1] == [source for source, _ in in_order_of_time(logs)]
