"""The story of a run: what is told by several nodes is told once."""

import pytest
from elrun.launcher.report.records import NodeRecord
from elrun.launcher.report.story import FIRST_DECISIONS, LATEST_DECISIONS, story_of
from elrun.launcher.report.text import text_of
from elrun.launcher.report.words import as_duration, as_exit, as_percent, as_size
from run_kit import START, attempt, event, moment, report, sample


def node(number, *attempts, history=(), **more):
    name = more.pop("node", f"n{number}")
    return NodeRecord(str(number), report(*attempts, node=name, agent_pid=number, **more), history)


def decisions(*records):
    return [(each.at - START, each.node, each.text) for each in story_of(records).decisions]


def test_what_all_nodes_tell_is_told_once():
    """In the order of time, though each has a clock of its own."""
    first, second = attempt(1, 5, group_world_size=2), attempt(1.25, 5.5, group_world_size=2)

    assert [
        (0, "2 nodes", "the job began"),
        (1, "2 nodes", "round 0 began with 2 nodes"),
        (5, "2 nodes", "rank 1 failed; restart"),
        (100, "2 nodes", "succeeded"),
    ] == decisions(node(1, first), node(2, second))


def test_what_happens_twice_is_told_twice():
    """The same failure in each attempt."""
    attempts = [attempt(10 * number + 1, 10 * number + 5, number=number) for number in range(2)]

    found = decisions(node(1, *attempts))

    assert [5, 15] == [at for at, _, text in found if text == "rank 1 failed; restart"]


@pytest.mark.parametrize(
    ("then", "words"), [("fail", "the job ends"), ("rejoin", "the nodes meet again")]
)
def test_what_follows_a_failure_is_said_in_words(then, words):
    """Not by the name that the report's file has for it."""
    end = {**attempt(1, 5)["end"], "then": then}

    found = decisions(node(1, {**attempt(1, 5), "end": end}))

    assert f"rank 1 failed; {words}" in [text for _, _, text in found]


def test_two_agents_of_one_host_are_told_apart():
    """By their process ids."""
    found = decisions(node(1, node="host"), node(2, node="host", state="failed", reason="x"))

    assert {"host (agent 1)", "host (agent 2)", "2 nodes"} == {name for _, name, _ in found}


def test_of_very_many_decisions_the_first_and_the_latest_are_shown():
    """With a line that says so."""
    attempts = [attempt(20 * n, 20 * n + 9, number=n) for n in range(1, 400)]

    found = decisions(node(1, *attempts))

    assert FIRST_DECISIONS + LATEST_DECISIONS + 1 == len(found)
    assert found[FIRST_DECISIONS][2] == "300 more are left out here"


@pytest.mark.parametrize("order", [0, 1])
def test_a_failure_on_one_node_is_how_the_run_ended(order):
    """Another one may have succeeded before, or was lost."""
    records = [node(1), node(2, attempt(0, 5), state="failed", exit_code=3, reason="it broke")]

    assert 3 == story_of(records[:: 1 - 2 * order]).verdict["exit_code"]


def test_a_run_too_short_for_a_sample_has_no_curves():
    """The start of its workers is none."""
    short = node(1, attempt(0, 4), history=[event(1, "running", ranks=[0, 1])])
    longer = node(1, attempt(0, 9), history=[*short.history, sample(6, {"0": [5.0, 9, None]})])

    assert [] == story_of([short]).curves
    assert [(0, [100.0])] == [(each.rank, each.cpu.values) for each in story_of([longer]).curves]
    assert "used:" not in text_of(story_of([short]))


def test_of_a_node_that_lived_for_a_moment_is_told_what_it_did():
    """For how long is not shown where it was shorter than what is shown."""
    moments = [event(0, "start"), event(0.01, "running"), event(0.02, "ended")]
    short = node(1, attempt(0.01, 0.02), history=moments, ended_at=moment(START + 0.03))
    silent = node(1, history=[event(0, "end")])

    times = ", ".join(f"{name} for less than 0.1 s" for name in ("joining", "running", "stopping"))
    assert [
        f"n1 (ranks 0-1): {times}; 1 failure",
        "n1: what it did was not recorded; 0 failures",
    ] == [story_of([each]).nodes[0].label for each in (short, silent)]


def test_numbers_are_shown_as_people_read_them():
    """With their units."""
    assert ["0.5 s", "42 s", "5 min 7 s", "2 h 5 min", "3 d 4 h"] == [
        as_duration(each) for each in (0.49, 42, 307, 7_500, 275_000)
    ]
    assert ["512 B", "1.5 KiB", "80 GiB", "2e+03 TiB"] == [
        as_size(each) for each in (512, 1_536, 80 << 30, 2_000 << 40)
    ]
    assert ("99 %", "", "3", "SIGKILL", "signal 99") == (
        as_percent(99.4),
        *(as_exit(each) for each in (None, 3, -9, -99)),
    )
