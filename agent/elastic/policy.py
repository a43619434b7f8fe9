"""What an agent does next: a pure function of its workers' state, the verdict and the budget."""

from __future__ import annotations

import enum

from ...rendezvous.api.handler import Verdict, VerdictKind
from ..workers.worker import WorkerState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

GIVE_UP, DELAY, DOUBT = "give_up", "restart_delay_s", "restart_doubt"
"""What a verdict says of a restart: why there is none; when it comes; why it may be in vain."""

LONGEST_DELAY_S = 300.0


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


END_STEPS = {
    Step.RESTART: "restart",
    Step.REJOIN: "rejoin",
    Step.FINISH: "finish",
    Step.FAIL: "fail",
    Step.LEAVE: "leave",
}
"""The steps that an agent may take when a round has ended, by the words of reports and events."""


def next_step(
    state: WorkerState, verdict: Verdict | None, remaining_restarts: int, *, waited: bool = False
) -> Step:
    """Decide what an agent does next.

    The verdict of a round binds every node, so it goes before what this node's own workers do.

    Args:
        verdict: How the round ended, or None while it runs.
        remaining_restarts: Restarts that the job may still spend.
        waited: Whether this node has waited for the others already, in vain.
    """
    if verdict is not None:
        return _step_after(verdict, remaining_restarts)
    if state is WorkerState.HEALTHY:
        return Step.WATCH
    if state is WorkerState.SUCCEEDED:
        return Step.FINISH if waited else Step.WAIT_FOR_OTHERS
    if state in (WorkerState.FAILED, WorkerState.UNHEALTHY):
        return Step.REPORT_FAILURE
    return Step.GIVE_UP


def _step_after(verdict: Verdict, remaining_restarts: int) -> Step:
    kind = verdict.kind
    if kind is VerdictKind.DONE:
        return Step.FINISH
    if kind is VerdictKind.ABORTED:
        return Step.LEAVE
    if kind is VerdictKind.WORKER_FAILED:
        may_restart = remaining_restarts > 0 and GIVE_UP not in verdict.details
        return Step.RESTART if may_restart else Step.FAIL
    return Step.REJOIN


def sentence_about(
    step: Step,
    verdict: Verdict | None,
    number: int = 0,
    budget: str = "",
    *,
    is_loss: bool = False,
) -> str:
    """Return, for people, what follows the end of a round, and why.

    Args:
        step: RESTART, REJOIN or FAIL.
        verdict: Why the last round ended.
        number: Number of the restart, if it is one.
        budget: Restarts that the job has in all: ``of 3``.
        is_loss: Whether the verdict's worker has failed because a node was lost.
    """
    reason = verdict.reason if verdict else "the round ended"
    details: Mapping[str, Any] = verdict.details if verdict else {}
    if step is Step.FAIL:
        return f"{reason}; no restart: {details.get(GIVE_UP)}"
    if step is Step.REJOIN:
        loss = "; a node was lost at that time" if is_loss else ""
        return f"{reason}{loss}; forming a new round, which costs no restart"
    delay_s = delay_of(verdict)
    when = f" in {delay_s:.3g} s" if delay_s else ""
    doubt = f"; {details[DOUBT]}" if details.get(DOUBT) else ""
    return f"{reason}; restarting all workers{when} (restart {number} {budget}){doubt}"


def as_seen_by(group_rank: int, verdict: Verdict | None) -> Verdict | None:
    """Return a verdict whose reason says so if the others have lost this very node.

    Args:
        group_rank: This node's rank in the round that has ended.
        verdict: Why it ended.
    """
    if verdict is None or verdict.kind is not VerdictKind.NODE_LOST:
        return verdict
    if group_rank not in verdict.lost or verdict.by == group_rank:
        return verdict
    return verdict._replace(reason=f"this node was suspended or cut off: {verdict.reason}")


def delay_of(verdict: Verdict | None) -> float:
    """Return after how many seconds a restart comes, as the node with the failed worker decided."""
    delay_s = verdict.details.get(DELAY) if verdict else None
    if not isinstance(delay_s, float) or not 0 <= delay_s <= LONGEST_DELAY_S:
        return 0.0
    return delay_s
