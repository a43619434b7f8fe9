"""What a node did when, from its history or else from its report."""

from elrun.launcher.report.records import NodeRecord
from elrun.launcher.report.timeline import MOST_SPANS, Doing, shifts_of, timeline_of
from run_kit import START, attempt, event, report


def spans(record, shift_s=0.0):
    found = timeline_of(record, shift_s).spans
    return [(each.doing.value, each.began_at - START, each.ended_at - START) for each in found]


HISTORY = [
    event(0, "start"),
    event(1, "joining"),
    event(3, "joined"),
    event(4, "running"),
    event(20, "ended", then="restart", reason="rank 1 failed", delay_s=5.0),
    event(21, "failed"),
    event(30, "joining"),
    event(31, "running"),
    event(60, "waiting"),
    event(90, "ended", then="finish"),
    event(91, "end"),
]


def test_events_become_spans():
    """A pause before a restart is a wait, though it is part of the way to the next round."""
    record = NodeRecord("", report(ended_at=None), HISTORY)

    assert [
        ("joining", 0, 1),
        ("joining", 1, 4),
        ("running", 4, 20),
        ("stopping", 20, 25),
        ("waiting", 25, 30),
        ("joining", 30, 31),
        ("running", 31, 60),
        ("waiting", 60, 90),
        ("stopping", 90, 91),
    ] == spans(record)


def test_what_has_no_end_lasts_until_the_latest_word():
    """The agent was killed, or the job still runs."""
    lines = [*HISTORY[:4], {"kind": "sample", "at": START + 15, "ranks": {}}]

    assert ("running", 4, 15) == spans(NodeRecord("", report(ended_at=None), lines))[-1]


def test_without_a_history_the_attempts_are_the_spans():
    """What lies between is the way into the next round."""
    record = NodeRecord("", report(attempt(5, 20), attempt(25, 95, number=1)), [])

    assert [
        ("joining", 0, 5),
        ("running", 5, 20),
        ("joining", 20, 25),
        ("running", 25, 95),
        ("stopping", 95, 100),
    ] == spans(record)


def test_ends_of_rounds_are_marked():
    """A failure is another thing than a node that joined."""
    record = NodeRecord(
        "", report(attempt(5, 20), attempt(25, 95, number=1, verdict="node waiting")), []
    )

    marks = timeline_of(record).marks
    assert [(20, True), (95, False)] == [(each.at - START, each.is_failure) for each in marks]


def test_of_very_many_spans_the_longest_are_shown():
    """A job that restarts all night has a page, too."""
    lines = [event(0, "start")]
    for number in range(1_000):
        lines += [event(2 * number + 1, "running"), event(2 * number + 2, "joining")]
    lines += [event(9_000, "running"), event(10_000, "end")]

    found = spans(NodeRecord("", report(ended_at=None), lines))

    assert MOST_SPANS == len(found)
    assert ("running", 9_000, 10_000) == found[-1]


def test_clocks_are_put_right_by_the_beginnings_of_rounds():
    """All nodes of a round begin it at nearly the same moment; a second or less is nothing."""
    first = NodeRecord("", report(attempt(5, 20), attempt(25, 95, number=1)), [])
    late = NodeRecord("", report(attempt(65, 80), attempt(85, 99, number=1)), [])
    near = NodeRecord("", report(attempt(5.5, 80)), [])
    strange = NodeRecord("", report(attempt(65, 80, number=7)), [])

    shifts = shifts_of([first, late, near, strange])

    assert [0.0, -60.0, 0.0, 0.0] == shifts
    assert ("running", 5, 20) == spans(late, shifts[1])[1]


def test_every_kind_of_span_has_a_name():
    """The page's legend lists them."""
    assert {"joining", "running", "waiting", "stopping"} == {each.value for each in Doing}
