"""How long ago ``elrun status`` says that a job began, whatever the host's clock does."""

import time

import pytest
from elrun.launcher.report.runs import Run
from elrun.launcher.verbs.view import overview_of


class Asked:
    """An agent that has answered, of a job that began at a time of the host's clock."""

    is_in_our_namespace = False

    def __init__(self, began_at_s, **known):
        self.run = Run("/runs/x.run", True, {"began_at_s": began_at_s, **known})


def standing(since_s):
    return {
        **dict.fromkeys(("round", "decision", "group_rank", "group_world_size", "world_size")),
        "run_id": "j",
        "node": "n0",
        "state": "meeting",
        "since_s": since_s,
        "restarts": {},
        "workers": [],
    }


@pytest.mark.parametrize(
    ("began_ago_s", "since_s", "expected"),
    [(100.0, 4.8, 100), (2.6, 4.8, 4.8), (-3_600.0, 4.8, 4.8), (-3_600.0, None, 0)],
)
def test_a_job_is_as_old_as_its_state_at_least(began_ago_s, since_s, expected):
    """Its beginning is noted a moment late, and a clock may be set back while it runs."""
    answers = [(Asked(time.time() - began_ago_s), standing(since_s))]

    overview = overview_of(answers, usages=None, notes=())

    assert expected == pytest.approx(overview.facts["runs_for_s"], abs=60)
    assert overview.facts["runs_for_s"] >= (since_s or 0)


@pytest.mark.parametrize("set_by_s", [3_600.0, -3_600.0])
def test_a_job_is_no_older_by_a_clock_that_was_set(set_by_s):
    """The time since the host's boot is nobody's to set."""
    boot_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    asked = Asked(time.time() - 100 - set_by_s, began_at_boot_s=boot_s - 100)

    overview = overview_of([(asked, standing(4.8))], usages=None, notes=())

    assert 100 == pytest.approx(overview.facts["runs_for_s"], abs=60)


def test_a_run_that_began_in_another_time_namespace_is_as_old_as_the_clock_says():
    """Its time since boot may be greater than ours."""
    record = {"began_at_s": 7, "began_at_boot_s": time.clock_gettime(time.CLOCK_BOOTTIME) + 100}

    assert [7.0, 7.0] == [Run("/runs/x.run", live, record).began_at_s for live in (True, False)]


def test_a_program_that_asks_twice_gets_the_same_time():
    """By two clocks that are read one after the other it would be another one each time."""
    boot_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    run = Run("/runs/x.run", True, {"began_at_s": time.time(), "began_at_boot_s": boot_s})

    assert [run.record["began_at_s"]] * 100 == [run.began_at_s for _ in range(100)]


def test_a_run_that_has_ended_began_when_its_clock_said():
    """Its time since boot may be that of an earlier boot."""
    record = {"began_at_s": 7, "began_at_boot_s": 0.0}

    assert 7.0 == Run("/runs/x.run", False, record).began_at_s
