"""What an agent does next: a pure function of its workers' state, the verdict and the budget."""

from __future__ import annotations

import enum

from ...rendezvous.api.handler import Verdict, VerdictKind
from ..workers.worker import WorkerState


class Step(enum.Enum):
    """What to do next."""

    WATCH = "keep watching the workers"
    REPORT_FAILURE = "tell every node that a worker failed"
    WAIT_FOR_OTHERS = "wait until the other nodes have finished too"
    RESTART = "restart the workers in a new round, at the cost of one restart"
    REJOIN = "restart the workers in a new round, at no cost"
    FINISH = "leave: the job succeeded"
    FAIL = "stop the workers: the job failed"
    LEAVE = "stop the workers: the run was aborted"
    GIVE_UP = "stop: nobody knows how the workers are"


def next_step(
    state: WorkerState, verdict: Verdict | None, remaining_restarts: int, *, waited: bool = False
) -> Step:
    """Decide what an agent does next.

    The verdict of a round binds every node, so it goes before what this node's own workers do.

    Args:
        state: State of this node's worker group.
        verdict: How the round ended, or None while it runs.
        remaining_restarts: Restarts that the job may still spend.
        waited: Whether this node has waited for the others already, in vain.
    """
    if verdict is not None:
        return _step_after(verdict.kind, remaining_restarts)
    if state is WorkerState.HEALTHY:
        return Step.WATCH
    if state is WorkerState.SUCCEEDED:
        return Step.FINISH if waited else Step.WAIT_FOR_OTHERS
    if state in (WorkerState.FAILED, WorkerState.UNHEALTHY):
        return Step.REPORT_FAILURE
    return Step.GIVE_UP


def _step_after(kind: VerdictKind, remaining_restarts: int) -> Step:
    if kind is VerdictKind.DONE:
        return Step.FINISH
    if kind is VerdictKind.ABORTED:
        return Step.LEAVE
    if kind is VerdictKind.WORKER_FAILED:
        return Step.RESTART if remaining_restarts > 0 else Step.FAIL
    return Step.REJOIN


def sentence_about(step: Step, verdict: Verdict | None, number: int, of: int) -> str:
    """Return, for people, why all workers start again.

    Args:
        step: RESTART or REJOIN.
        verdict: Why the last round ended.
        number: Number of the restart, if it is one.
        of: Restarts that the job has in all.
    """
    reason = verdict.reason if verdict else "the round ended"
    if step is Step.RESTART:
        return f"{reason}; restarting all workers (restart {number} of {of})"
    return f"{reason}; forming a new round, which costs no restart"
