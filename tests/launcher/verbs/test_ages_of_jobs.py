"""How long ago ``elrun status`` says that a job began, whatever the host's clock does."""

import time

import pytest
from elrun.launcher.report.runs import Run
from elrun.launcher.verbs.view import overview_of


class Asked:
    """An agent that has answered, of a job that began at a time of the host's clock."""

    is_in_our_namespace = False

    def __init__(self, began_at_s):
        self.run = Run("/runs/x.run", True, {"began_at_s": began_at_s})


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
