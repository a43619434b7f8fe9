"""Lets workers leave when the job is preempted: they are asked first, and alone.

``--preempt-signal`` means "save and leave": the job is going to run again. So a worker gets the
signal before what it has started does: a checkpoint is lost if a DataLoader's process dies first.
However workers end then is no failure of the job.
"""

from __future__ import annotations

import signal
import time

from ...rendezvous.errors import RendezvousError
from ...rendezvous.logs import Log
from ..processes.context import PContext
from ..processes.guardian import Guardian
from ..system.pidfd import wait_briefly
from ..system.signals import Preempted
from .deadlines import ANSWER_S, Deadline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ...rendezvous.api.handler import RoundHandler
    from ..monitoring.preemption_notice import PreemptionNotice
    from ..system.wakeup import Urgency
    from ..workers.worker import WorkerGroup

log = Log(__name__)

WITNESS_S = 0.2
"""How far apart the signal may reach elrun and its guardian, if it was sent to all processes."""

ECHO_S = 1.0
"""How much later than another node a node of a SLURM job may get the signal."""

_REST_S = 0.5
_LEAST_S = 1.0

_HAS_LEFT = b'{"preempted": true}'
_ALL_HAVE_LEFT = b'{"preempted": "all nodes"}'


class Leaving:
    """The end of one node's workers by a preemption.

    Args:
        preempted: Why the job ends.
        guardian: The witness of signals that were sent to all processes.
        deadline: Says how long the workers have.
        notice: Tells those that ask; None: there is none.
        to_group: Whether what workers have started gets the signal with them.
    """

    def __init__(
        self,
        preempted: Preempted,
        group: WorkerGroup,
        workers: PContext,
        guardian: Guardian,
        deadline: Deadline,
        notice: PreemptionNotice | None = None,
        *,
        to_group: bool = False,
    ) -> None:
        self._preempted = preempted
        self._rank_of = {each.local_rank: each.global_rank for each in group.workers}
        self._workers = workers
        self._guardian = guardian
        self._deadline = deadline
        self._notice = notice
        self._to_group = to_group
        self._asked = workers.running_pids().keys()
        self._began_at = time.monotonic()
        self.ends_at = self._began_at

    def end_workers(self, urgency: Urgency) -> None:
        """Ask the workers to leave, wait until the deadline, and end what is left.

        Args:
            urgency: Ends their time as soon as it is readable.
        """
        number = self._preempted.sigval
        self._tell_askers()
        if self._asked:
            self._deadline.ask()
            if not self._has_come_to_all():
                self._workers.signal_workers(number, to_group=self._to_group)
            self._deadline.wait(ANSWER_S + _REST_S)
            log.warning("%s: %s", self._preempted, self._deadline.sentence(self._began_at))
        self._tell_askers()
        left_s = max(0.0, round(self.ends_at - time.monotonic(), 1))
        self._workers.close(signal.SIGTERM, left_s, urgency=urgency, alone=0)
        self._preempted.failures = tuple(self._failures())

    def _tell_askers(self) -> None:
        """Let workers see how long they have, as far as it is known."""
        self.ends_at = self._began_at + self._deadline.grace_s
        if self._notice is not None:
            self._notice.tell(self.ends_at)

    def stay(self, rounds: RoundHandler, ask: Callable[[Callable[[], Any], float], Any]) -> None:
        """Stay until the workers of all nodes have left.

        A node that ended sooner might end the others: ``srun --kill-on-bad-exit`` and ``mpirun``
        end a job when one of its tasks has failed. Each node says when its workers have left; the
        node of rank 0 hears all of them, and says so to all.

        Args:
            ask: Calls what asks the store, for so many seconds at most.
        """
        preempted, left_s = self._preempted, max(_LEAST_S, self.ends_at - time.monotonic())
        preempted.ends_at = self.ends_at
        try:
            ask(lambda: rounds.publish(_HAS_LEFT), left_s)
            if preempted.group_rank == 0:
                ask(lambda: rounds.collect(left_s), left_s + _LEAST_S)
                ask(lambda: rounds.settle_cause(_ALL_HAVE_LEFT), _LEAST_S)
                preempted.has_all_left = True
            else:
                found = ask(lambda: rounds.await_cause(left_s), left_s + _LEAST_S)
                # A rendezvous of another package carries no such word.
                preempted.has_all_left = found is not None or rounds.has_to_be_asked
        except RendezvousError as error:
            log.info("the other nodes' workers can't be waited for: %s", error)

    def _has_come_to_all(self) -> bool:
        """Return whether the signal was sent to all processes of this node, workers too."""
        number, preempted = self._preempted.sigval, self._preempted
        wait_s = WITNESS_S if preempted.is_local else ECHO_S * self._deadline.is_of_slurm
        deadline = time.monotonic() + wait_s
        fds = {self._guardian.witness_fd} - {-1}
        while fds:
            if number in self._guardian.take_witnessed():
                return True
            left_s = deadline - time.monotonic()
            if left_s <= 0:  # where the guardian had no time for it, it was sent to all
                return self._guardian.has_pending(number)
            wait_briefly(fds, left_s)
            fds = {self._guardian.witness_fd} - {-1}
        return False

    def _failures(self) -> list[str]:
        """Return how workers ended that did not leave in order, a sentence each."""
        result = self._workers.look()
        failures = {} if result is None else result.failures
        found: dict[int, str] = {}
        for local_rank in self._asked & self._workers.exits.keys():
            end, rank = self._workers.exits[local_rank], self._rank_of[local_rank]
            if end.stopped or end.exitcode == -signal.SIGTERM:
                found[rank] = f"rank {rank} did not leave in time and was ended"
            elif local_rank in failures and -end.exitcode != self._preempted.sigval:
                found[rank] = f"rank {rank} failed while it left: {failures[local_rank].summary}"
        return [found[rank] for rank in sorted(found)]
