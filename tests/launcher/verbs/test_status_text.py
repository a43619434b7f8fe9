"""`elrun status` in plain columns: what is said of silent ranks, and which columns there are."""

import pytest
from elrun.launcher.verbs.status_text import as_text, silences
from elrun.launcher.verbs.view import Node, Overview, Rank

FACTS = {
    "run_id": "job",
    "name": "train.py",
    "is_running": True,
    "state": "running",
    "since_s": 90.0,
    "runs_for_s": 100.0,
    "round": 0,
    "group_world_size": 1,
    "world_size": 4,
    "restarts": {"spent": 0, "left": 3, "max": 3},
    "decision": None,
}
WHERE = ": `elrun stacks` shows where each rank is"


def overview(*silent_s, states=None, **facts):
    states = states or {}
    ranks = [
        Rank(at, "n0", 100 + at, states.get(at, "running"), 5.0, 1 << 20, each, "step 1")
        for at, each in enumerate(silent_s)
    ]
    return Overview(FACTS | facts, [Node(0, "n0", "running", 0.0)], ranks)


@pytest.mark.parametrize(
    ("silent_s", "expected"),
    [
        ((1, 1, 1, 1), None),
        ((1, 1, 30, 1), "rank 2 has printed nothing for 30 s, the others for at most 1.0 s"),
        ((1, 2, 4.9, 1), None),
        ((2, 2, 9, 1), None),
        (
            (1,) * 6 + (40, 30),
            "ranks 6-7 have printed nothing for 30 s, the others for at most 1.0 s",
        ),
        ((1, 700, 700, 700), None),  # only rank 0 prints
        ((700, 700, 700, 700), "no rank has printed anything for 11 min 40 s"),
        ((59, 59), None),
        ((1, 30), None),
        ((None, 1, 1, 30), None),
        ((None,), None),
        ((), None),
    ],
)
def test_the_ranks_that_are_silent_while_others_print_are_named(silent_s, expected):
    """Where few are; many are silent where only one rank prints."""
    found = [*silences(overview(*silent_s))]

    assert ([] if expected is None else [f"{expected}{WHERE}"]) == found


@pytest.mark.parametrize(
    "other", [{"is_running": False, "state": "failed"}, {"state": "stopping"}, {"state": "meeting"}]
)
def test_only_of_a_job_that_runs_silence_is_told(other):
    """Else it is no wonder."""
    assert [] == [*silences(overview(1, 1, 1, 90, **other))]


def test_a_rank_that_has_ended_is_not_silent():
    """It has nothing more to say."""
    assert [] == [*silences(overview(1, 1, 1, 90, states={3: "succeeded"}))]


def test_columns_of_which_nothing_is_known_are_left_out():
    """Such as those of GPUs on a host without any."""
    text = as_text(overview(1, 1))
    with_gpu = Rank(0, "n0", 100, "running", 5.0, 1 << 20, 1, "step 1", 97, 3 << 30)
    more = as_text(overview()._replace(ranks=[with_gpu, with_gpu._replace(gpu_percent=None)]))
    ended = as_text(overview()._replace(ranks=[Rank(0, "n0", 100, "failed (1)")]))

    assert "RANK  HOST  PID  STATE    CPU  MEMORY  PRINTED    LAST LINE\n" in text
    assert "CPU  MEMORY  GPU  GPU MEMORY  PRINTED" in more
    assert "5%   1 MiB   97%  3 GiB       1.0 s ago  step 1\n" in more
    assert "5%   1 MiB   -    3 GiB       1.0 s ago  step 1\n" in more
    assert ended.endswith("RANK  HOST  PID  STATE\n0     n0    100  failed (1)\n")


def test_a_state_whose_beginning_is_not_known_is_shown_without_it():
    """A round that ends has no decision yet."""
    text = as_text(overview(since_s=None, state="stopping"))

    assert text.startswith("run job (train.py): stopping, started 1 min 40 s ago\n")


def test_nothing_acts_on_a_terminal_or_makes_a_second_line():
    """Lines are what workers have printed."""
    rank = Rank(0, "n0", 1, "running", last_line="a\x1b[31m\nb")

    assert "a\\x1b[31m b\n" in as_text(overview()._replace(ranks=[rank]))
