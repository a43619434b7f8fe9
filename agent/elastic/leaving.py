"""How a node leaves a round: at its end, when all nodes have finished, or in the midst of it."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from ...rendezvous.api.handler import RoundHandler, Verdict, VerdictKind
from ...rendezvous.errors import RendezvousClosedError, RendezvousError
from ...rendezvous.logs import Log
from ...rendezvous.threads import Call, NoThreadError
from ..system.pidfd import NEVER
from ..system.signals import Preempted, SignalException, StopRequested, TimeIsUp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ..system.signals import SignalInbox

log = Log(__name__)

STOPPED_BY = "stopped by signal"
"""In the details of a verdict: the number of the signal that stopped a node."""

TIME_IS_UP = "time is up"
"""In the details of a verdict: how long the job was allowed to take."""
PREEMPTED_BY = "preempted by signal"
"""In the details of a verdict: the number of the signal by which the job ends."""

PREEMPTED_NODE = "preempted node"
"""Beside it: the host that it came to."""

STOPPED_JOB = "job stopped"
"""In the details of a verdict: that `elrun stop` has ended the job; True: at once."""

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
            deadline = NEVER
        elif left_s <= 0:
            log.warning("the other nodes have not finished within %g s: this one leaves", timeout_s)
            return
        wait_for_change(None if deadline == NEVER else max(0.0, left_s))


def close_run(rounds: RoundHandler, ask: Callable[[Callable[[], None]], None]) -> None:
    """Let nobody join any more; why the job failed is known, whatever becomes of the store.

    Args:
        ask: Calls what asks the store, for a bounded time.
    """
    try:
        ask(rounds.set_closed)
    except RendezvousError as error:
        log.info("the run could not be closed: %s", error)


def verdict_of(error: BaseException, group_rank: int, host: str) -> Verdict | None:
    """Return the verdict that tells the others why this node leaves; None: no verdict.

    Args:
        group_rank: This node's rank in the round; -1: it has none.
        host: Name of this node's host.
    """
    node = host if group_rank < 0 else f"{host} (group rank {group_rank})"
    if isinstance(error, RendezvousError):
        return None
    if isinstance(error, TimeIsUp):
        details = {TIME_IS_UP: error.limit_s}
        return Verdict(VerdictKind.ABORTED, group_rank, str(error), details, (group_rank,))
    if isinstance(error, StopRequested):
        details = {STOPPED_JOB: error.is_now}
        return Verdict(VerdictKind.ABORTED, group_rank, str(error), details)
    if isinstance(error, Preempted):
        origin = {PREEMPTED_BY: int(error.sigval), PREEMPTED_NODE: error.node}
        return Verdict(VerdictKind.ABORTED, group_rank, str(error), origin)
    if isinstance(error, SignalException):
        number = signal.Signals(error.sigval)
        return Verdict(
            VerdictKind.NODE_LOST,
            by=group_rank,
            reason=f"{node} was stopped by {number.name}",
            details={STOPPED_BY: int(number)},
            lost=(group_rank,),
        )
    if not isinstance(error, Exception):
        return None
    reason = f"the agent on {node} failed: {error}"
    return Verdict(VerdictKind.ABORTED, by=group_rank, reason=reason, lost=(group_rank,))


def abort_of(run_id: str, verdict: Verdict | None) -> Exception:
    """Return what ends this node's run after another node has aborted the job."""
    details: Mapping[str, object] = verdict.details if verdict else {}
    limit_s = details.get(TIME_IS_UP)
    if isinstance(limit_s, (int, float)):
        return TimeIsUp(limit_s)
    number, node = details.get(PREEMPTED_BY), details.get(PREEMPTED_NODE)
    if isinstance(number, int) and number in set(signal.Signals) and isinstance(node, str):
        return Preempted(signal.Signals(number), node, is_local=False)
    reason = verdict.reason if verdict else "no reason was given"
    if STOPPED_JOB in details:
        return StopRequested(reason, is_now=details[STOPPED_JOB] is True)
    return RendezvousClosedError(f"run {run_id!r} was aborted: {reason}")


@contextlib.contextmanager
def stops_heeded(run_id: str, inbox: SignalInbox) -> Iterator[None]:
    """Let a stop of the job on another node end the body as a stop on this one would.

    Args:
        inbox: Knows of the stop afterwards, so that workers are killed at once if that is wanted.

    Raises:
        SignalException: Another node has stopped the job, while this one was in a round or waited.
    """
    try:
        yield
    except StopRequested as stop:
        inbox.request_stop(now=stop.is_now, is_known=True)
        raise
    except RendezvousClosedError as closed:
        verdict = Verdict(VerdictKind.ABORTED, reason=closed.reason, details=closed.details)
        error = abort_of(run_id, verdict)
        if not isinstance(error, SignalException):
            raise
        if isinstance(error, StopRequested):
            inbox.request_stop(now=error.is_now, is_known=True)
        raise error from closed


class Farewell:
    """Announces to the other nodes that this one leaves: they go on without it, or leave too.

    A thread writes the verdict, since the store may be lost as well, and that must not delay the
    shutdown. If there can be no thread, the other nodes miss this node's heartbeat instead.

    Args:
        group_rank: This node's rank in the round; None: it is in none, and there is nothing to say.
        error: What ends this node's run; None: nothing does.
    """

    def __init__(
        self, rounds: RoundHandler, group_rank: int | None, error: BaseException | None
    ) -> None:
        self._call: Call[None] | None = None
        is_for_all = isinstance(error, (Preempted, StopRequested))
        if error is None or rounds.has_to_be_asked or (group_rank is None and not is_for_all):
            return
        verdict = verdict_of(error, -1 if group_rank is None else group_rank, os.uname().nodename)
        if verdict is None:
            return
        say = rounds.abort if is_for_all else rounds.conclude
        if rounds.answers_at_once:
            _conclude(say, verdict)
            return
        try:
            self._call = Call(lambda: _conclude(say, verdict), "elrun-farewell", or_here=False)
        except NoThreadError as no_thread:
            log.info("the other nodes are not told that this one leaves: %s", no_thread.strerror)

    def finish(self) -> None:
        """Wait until the verdict is written, for a bounded time."""
        if self._call is not None:
            self._call.wait(_FAREWELL_S)


def _conclude(say: Callable[[Verdict], object], verdict: Verdict) -> None:
    try:
        say(verdict)
    except RendezvousError as error:
        log.info("the other nodes could not be told: %s", error)
