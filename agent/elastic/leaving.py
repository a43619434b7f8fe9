"""How a node leaves a round: at its end, when all nodes have finished, or in the midst of it."""

from __future__ import annotations

import math
import signal
import time

from ...rendezvous.api.handler import RoundHandler, Verdict, VerdictKind
from ...rendezvous.errors import RendezvousClosedError, RendezvousError
from ...rendezvous.logs import Log
from ...rendezvous.threads import Call, NoThreadError
from ..system.signals import SignalException, TimeIsUp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

log = Log(__name__)

STOPPED_BY = "stopped by signal"
"""In the details of a verdict: the number of the signal that stopped a node."""

TIME_IS_UP = "time is up"
"""In the details of a verdict: how long the job was allowed to take."""

_FAREWELL_S = 1.0


def await_verdict(
    rounds: RoundHandler,
    deadline: float,
    timeout_s: float,
    wait_for_change: Callable[[float | None], None],
    is_needed: Callable[[], bool],
) -> None:
    """Return when the round has ended, or when it is time for this node to leave.

    Args:
        rounds: The rendezvous.
        deadline: When this node leaves unless the others need it, by ``time.monotonic()``.
        timeout_s: How long it will have waited by then, for people.
        wait_for_change: Waits until the round may have ended, so many seconds at most.
        is_needed: Returns whether the other nodes lose a store that they need when this one leaves.
    """
    while rounds.verdict() is None:
        left_s = deadline - time.monotonic()
        if left_s <= 0 and is_needed():
            log.warning(
                "the other nodes have not finished within %g s: this one stays, since it "
                "hosts the store that they need",
                timeout_s,
            )
            deadline = math.inf
        elif left_s <= 0:
            log.warning("the other nodes have not finished within %g s: this one leaves", timeout_s)
            return
        wait_for_change(None if math.isinf(deadline) else max(0.0, left_s))


def close_run(rounds: RoundHandler, ask: Callable[[Callable[[], None]], None]) -> None:
    """Let nobody join any more; why the job failed is known, whatever becomes of the store.

    Args:
        rounds: The rendezvous.
        ask: Calls what asks the store, for a bounded time.
    """
    try:
        ask(rounds.set_closed)
    except RendezvousError as error:
        log.info("the run could not be closed: %s", error)


def verdict_of(error: BaseException, group_rank: int) -> Verdict | None:
    """Return the verdict that gives the others the reason why this node leaves; None: no verdict.

    Args:
        error: What ends this node's run.
        group_rank: Its rank in the round.
    """
    if isinstance(error, RendezvousError):
        return None
    if isinstance(error, TimeIsUp):
        details = {TIME_IS_UP: error.limit_s}
        return Verdict(VerdictKind.ABORTED, group_rank, str(error), details, (group_rank,))
    if isinstance(error, SignalException):
        number = signal.Signals(error.sigval)
        return Verdict(
            VerdictKind.NODE_LOST,
            by=group_rank,
            reason=f"a node was stopped by {number.name}",
            details={STOPPED_BY: int(number)},
            lost=(group_rank,),
        )
    if not isinstance(error, Exception):
        return None
    reason = f"a node failed: {error}"
    return Verdict(VerdictKind.ABORTED, by=group_rank, reason=reason, lost=(group_rank,))


def abort_of(run_id: str, verdict: Verdict | None) -> Exception:
    """Return what ends this node's run after another node has aborted the job."""
    limit_s = verdict.details.get(TIME_IS_UP) if verdict else None
    if isinstance(limit_s, (int, float)):
        return TimeIsUp(limit_s)
    reason = verdict.reason if verdict else "no reason was given"
    return RendezvousClosedError(f"run {run_id!r} was aborted: {reason}")


class Farewell:
    """Announces to the other nodes that this one leaves: they go on without it, or leave too.

    A thread writes the verdict, since the store may be lost as well, and that must not delay the
    shutdown. If there can be no thread, the other nodes miss this node's heartbeat instead.

    Args:
        rounds: The rendezvous.
        group_rank: This node's rank in the round; None: it is in none, and there is nothing to say.
        error: What ends this node's run; None: nothing does.
    """

    def __init__(
        self, rounds: RoundHandler, group_rank: int | None, error: BaseException | None
    ) -> None:
        self._call: Call[None] | None = None
        if group_rank is None or error is None or rounds.has_to_be_asked:
            return
        verdict = verdict_of(error, group_rank)
        if verdict is None:
            return
        try:
            self._call = Call(lambda: _conclude(rounds, verdict), "elrun-farewell", or_here=False)
        except NoThreadError as no_thread:
            log.info("the other nodes are not told that this one leaves: %s", no_thread.strerror)

    def finish(self) -> None:
        """Wait until the verdict is written, for a bounded time."""
        if self._call is not None:
            self._call.wait(_FAREWELL_S)


def _conclude(rounds: RoundHandler, verdict: Verdict) -> None:
    try:
        rounds.conclude(verdict)
    except RendezvousError as error:
        log.info("the other nodes could not be told: %s", error)
