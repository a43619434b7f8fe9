"""What an agent does next."""

import pytest
from elrun.agent.elastic.policy import Step, next_step
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


def test_a_node_that_waited_in_vain_leaves_with_its_own_success():
    """The exit barrier is bounded: afterwards a succeeded node finishes."""
    assert Step.FINISH is next_step(WorkerState.SUCCEEDED, None, 0, waited=True)
