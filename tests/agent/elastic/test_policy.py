"""What an agent does next."""

import pytest
from elrun.agent.elastic.policy import (
    DELAY,
    DOUBT,
    GIVE_UP,
    Step,
    as_seen_by,
    delay_of,
    next_step,
    sentence_about,
)
from elrun.agent.workers.worker import WorkerState
from elrun.rendezvous.api.handler import Verdict, VerdictKind


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (WorkerState.HEALTHY, Step.WATCH),
        (WorkerState.SUCCEEDED, Step.WAIT_FOR_OTHERS),
        (WorkerState.FAILED, Step.REPORT_FAILURE),
        (WorkerState.UNHEALTHY, Step.REPORT_FAILURE),
        (WorkerState.UNKNOWN, Step.GIVE_UP),
        (WorkerState.INIT, Step.GIVE_UP),
        (WorkerState.STOPPED, Step.GIVE_UP),
    ],
)
def test_without_a_verdict_the_workers_state_decides(state, expected):
    """While the round runs, an agent acts on its own workers."""
    assert expected is next_step(state, None, remaining_restarts=1)


@pytest.mark.parametrize("state", WorkerState)
@pytest.mark.parametrize(
    ("kind", "remaining", "expected"),
    [
        (VerdictKind.DONE, 0, Step.FINISH),
        (VerdictKind.ABORTED, 3, Step.LEAVE),
        (VerdictKind.WORKER_FAILED, 1, Step.RESTART),
        (VerdictKind.WORKER_FAILED, 0, Step.FAIL),
        (VerdictKind.NODE_LOST, 0, Step.REJOIN),
        (VerdictKind.NODE_WAITING, 0, Step.REJOIN),
    ],
)
def test_a_verdict_binds_every_node_whatever_its_workers_do(state, kind, remaining, expected):
    """The verdict goes before the state; only a failed worker costs a restart."""
    assert expected is next_step(state, Verdict(kind), remaining)


def test_a_verdict_may_rule_a_restart_out():
    """The node on which a worker failed has decided by its cause."""
    verdict = Verdict(VerdictKind.WORKER_FAILED, reason="x", details={GIVE_UP: "why"})

    assert Step.FAIL is next_step(WorkerState.HEALTHY, verdict, remaining_restarts=3)
    assert "x; no restart: why" == sentence_about(Step.FAIL, verdict)


@pytest.mark.parametrize(
    ("by", "lost", "reason"),
    [
        (0, (2,), "this node was suspended or cut off: n3 has not been heard of"),
        (-1, (1, 2), "this node was suspended or cut off: n3 has not been heard of"),
        (0, (1,), "n3 has not been heard of"),
        (2, (2,), "n3 has not been heard of"),
    ],
)
def test_a_node_that_the_others_have_lost_is_told_so(by, lost, reason):
    """It wakes up, and reads of itself what the others wrote of it; its own words stand."""
    verdict = Verdict(VerdictKind.NODE_LOST, by, "n3 has not been heard of", lost=lost)

    assert reason == as_seen_by(2, verdict).reason


@pytest.mark.parametrize(
    ("details", "delay_s", "sentence"),
    [
        ({}, 0.0, "x; restarting all workers (restart 2 of 3)"),
        ({DELAY: 0.5}, 0.5, "x; restarting all workers in 0.5 s (restart 2 of 3)"),
        ({DELAY: 1.25}, 1.25, "x; restarting all workers in 1.25 s (restart 2 of 3)"),
        ({DELAY: 0.0, DOUBT: "hm"}, 0.0, "x; restarting all workers (restart 2 of 3); hm"),
        ({DELAY: 300.0}, 300.0, "x; restarting all workers in 300 s (restart 2 of 3)"),
        ({DELAY: 301.0}, 0.0, "x; restarting all workers (restart 2 of 3)"),
        ({DELAY: -1.0}, 0.0, "x; restarting all workers (restart 2 of 3)"),
        ({DELAY: float("nan")}, 0.0, "x; restarting all workers (restart 2 of 3)"),
        ({DELAY: "soon"}, 0.0, "x; restarting all workers (restart 2 of 3)"),
    ],
)
def test_a_verdict_may_put_a_restart_off(details, delay_s, sentence):
    """By five minutes at most, whatever another node has written."""
    verdict = Verdict(VerdictKind.WORKER_FAILED, reason="x", details=details)

    assert delay_s == delay_of(verdict)
    assert sentence == sentence_about(Step.RESTART, verdict, 2, "of 3")


def test_a_node_that_waited_in_vain_leaves_with_its_own_success():
    """The exit barrier is bounded: afterwards a succeeded node finishes."""
    assert Step.FINISH is next_step(WorkerState.SUCCEEDED, None, 0, waited=True)
