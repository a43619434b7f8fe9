"""The judge of `make chaos`: good histories pass, and each planted fault is named."""

import itertools

import pytest
from rig.judge import Ending, verdicts
from rig.schedule import FAULTS, schedule

WORKERS = 3
STEP_S = 0.05


def trained(group, first, last, began_at, workers=WORKERS):
    """Return the journal of one worker group: steps one after the other, by all workers."""
    return [
        {
            "round": [group, 1, 1],
            "rank": rank,
            "step": step,
            "start": began_at + (step - first) * STEP_S,
            "end": began_at + (step - first + 1) * STEP_S,
        }
        for step in range(first, last + 1)
        for rank in range(workers)
    ]


GOOD = [*trained("a", 1, 13, 0.0), *trained("b", 11, 20, 1.0)]
WELL = [Ending("agent 0", 0), Ending("agent 1", -9, (-9,))]


def test_a_good_history_breaks_no_promise():
    """The second group resumes at the checkpoint after step 10; a killed agent was to be killed."""
    assert [] == verdicts(GOOD, WELL, [])


def test_a_worker_that_writes_late_harms_nothing():
    """It stood still after the step was made, and had nothing to do but to write that."""
    *early, last = trained("a", 1, 13, 0.0)
    late = {**last, "end": 1.3}

    assert [] == verdicts([*early, late, *trained("b", 11, 20, 1.0)], WELL, [])


BAD = {
    "two rounds at once": (
        [*trained("a", 1, 13, 0.0), *trained("b", 11, 20, 0.4)],
        "two rounds trained at once: one made steps 1 to 13 until 0.650 s, the next began with 11",
    ),
    "one round within another": (
        [*trained("a", 1, 40, 0.0), *trained("b", 36, 37, 0.5)],
        "two rounds trained at once",
    ),
    "a checkpoint is forgotten": (
        [*trained("a", 1, 13, 0.0), *trained("b", 6, 20, 1.0)],
        "steps were lost: after 13 came 6, of a checkpoint before",
    ),
    "all is forgotten": (
        [*trained("a", 1, 13, 0.0), *trained("b", 1, 20, 1.0)],
        "steps were lost: after 13 came 1",
    ),
    "steps that nobody made": (
        [*trained("a", 1, 13, 0.0), *trained("b", 16, 20, 1.0)],
        "steps were left out: after 13 came 16",
    ),
    "the beginning is missing": (trained("a", 2, 13, 0.0), "the first step was 2"),
    "a step is left out": (
        [line for line in GOOD if line["step"] != 5],
        "round 0 made a step twice or left one out",
    ),
    "a step is made twice": (
        [*GOOD, trained("a", 13, 13, 0.7)[0]],
        "round 0 made a step twice or left one out",
    ),
}


@pytest.mark.parametrize(("lines", "sentence"), BAD.values(), ids=BAD)
def test_a_bad_history_is_named(lines, sentence):
    """Whatever the workers have done that they should not."""
    found = verdicts(lines, WELL, [])

    assert any(each.startswith(sentence) for each in found), found


@pytest.mark.parametrize("code", [1, 75, -9])
def test_an_agent_that_should_not_have_ended_so_is_named(code):
    """Only the schedule may kill one."""
    assert [f"agent 2 ended with {code}"] == verdicts(GOOD, [*WELL, Ending("agent 2", code)], [])


def test_a_killed_agent_that_ended_otherwise_is_named():
    """It was gone before it could be killed."""
    assert ["agent 1 ended with 1"] == verdicts(GOOD, [Ending("agent 1", 1, (-9,))], [])


def test_what_is_left_is_named():
    """Processes and files."""
    assert ["left behind: process 7 x"] == verdicts(GOOD, WELL, ["process 7 x"])


@pytest.mark.parametrize("backend", FAULTS)
def test_a_seed_makes_the_same_schedule_every_time(backend):
    """So a history that broke a promise can be tried again."""
    first, again, other = (
        list(itertools.islice(schedule(seed, backend), 40)) for seed in (1, 1, 2)
    )

    assert first == again != other


@pytest.mark.parametrize("backend", FAULTS)
def test_every_kind_of_fault_comes_before_one_comes_again(backend):
    """A short run has seen as much as it can."""
    kinds = [fault.kind for fault in itertools.islice(schedule(1, backend), len(FAULTS[backend]))]

    assert sorted(FAULTS[backend]) == sorted(kinds)
