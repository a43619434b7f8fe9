"""What a subclass of the agent's template fills in, and what it may fill in."""

from __future__ import annotations

import signal
import threading
import time
from abc import abstractmethod

from ...rendezvous.api.handler import RendezvousInfo, Verdict, VerdictKind
from ..failures.failure import ProcessFailure
from ..workers.worker import RunResult, WorkerGroup, WorkerSpec, WorkerState
from .observer import Moment
from .policy import Step, as_seen_by
from .recorded import RecordedAgent
from .restarts import Restarts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    _T = TypeVar("_T")

_TAKES_ANY_POSITIONAL = 0x04  # inspect.CO_VARARGS; importing inspect takes 5 ms
_TAKES_ANY_NAME = 0x08  # inspect.CO_VARKEYWORDS


class AgentHooks(RecordedAgent):
    """The steps that ``SimpleElasticAgent`` calls and leaves to others.

    Args:
        spec: What to run.
    """

    def __init__(self, spec: WorkerSpec) -> None:
        super().__init__(spec)
        self._restarts = Restarts(spec.max_restarts, spec.restart_rules)
        self._change = threading.Event()
        self._rounds.subscribe(self._change.set)

    @abstractmethod
    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        """Start the group's workers and return the id of each by local rank."""

    @abstractmethod
    def _stop_workers(self, worker_group: WorkerGroup) -> None:
        """Stop the group's workers, in whatever state they are."""

    def _ask_workers_to_end(self, step: Step) -> None:
        """Let workers that are about to be stopped know of it, before a word is said about it.

        Args:
            step: RESTART, REJOIN or FAIL.
        """

    def _end_round(self, verdict: Verdict | None, step: Step) -> None:
        """Take the end of a round, if it has ended: workers hear of it before any record does."""
        at = Moment.now()  # to ask may take a second
        try:
            if step in (Step.RESTART, Step.REJOIN, Step.FAIL):
                self._ask_workers_to_end(step)
        finally:
            self._events.round_ended(verdict, step, at)

    @abstractmethod
    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        """Return how the workers stand now, without waiting."""

    @abstractmethod
    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, timeout: float = 30) -> None:
        """Stop the workers for good and give everything back.

        Args:
            death_sig: The signal that they get first.
            timeout: Seconds until SIGKILL.
        """

    @property
    def _watch_interval(self) -> float | None:
        """Longest time in seconds between two looks at the workers; None: no limit."""
        return self._worker_group.spec.monitor_interval

    def _wait_for_change(self, timeout_s: float | None) -> None:
        """Return when a worker or the round may have changed, or after the time-out."""
        self._change.wait(None if timeout_s is None else min(timeout_s, threading.TIMEOUT_MAX))
        self._change.clear()

    def _next_round(self) -> RendezvousInfo:
        """Take part in the next round; block until it is sealed."""
        return self._rounds.next_rendezvous()

    def _ask(
        self,
        question: Callable[[], _T],
        timeout_s: float | None = None,
    ) -> _T:
        """Return what the rendezvous answers; a subclass may bound the time that it takes."""
        return question()

    def _describe_failure(self, result: RunResult) -> Verdict:
        """Return the verdict by which the other nodes learn that a worker failed here."""
        ranks = sorted(result.failures)
        return Verdict(
            VerdictKind.WORKER_FAILED,
            by=self._group_rank,
            reason=f"rank {ranks[0]} failed" if ranks else "workers are unhealthy",
        )

    def _conclude_failed_run(self, result: RunResult, verdict: Verdict | None) -> RunResult:
        """Return the result of a failed job, after its workers were stopped."""
        failures = dict(result.failures)
        if not failures:
            unknown = ProcessFailure(local_rank=-1, pid=0, exitcode=1, error_file="")
            unknown.message = verdict.reason if verdict else "the workers are unhealthy"
            failures[-1] = unknown
        return RunResult(WorkerState.FAILED, failures=failures)

    @property
    def _group_rank(self) -> int:
        rank = self._worker_group.group_rank
        return -1 if rank is None else rank

    @property
    def _is_needed_by_others(self) -> bool:
        """Whether the other nodes lose a store that they need when this one leaves."""
        return self._rounds.is_needed_by_others

    @property
    def _usable_restarts(self) -> int:
        """Restarts that the job has left, as far as this node is fit for one."""
        return self._restarts.usable(self._remaining_restarts)

    def _say_what_follows(self, step: Step, verdict: Verdict | None) -> None:
        # A rendezvous of another package has no count of the restarts that the job has spent.
        has_others = (self._worker_group.group_world_size or 1) > 1
        is_shared = has_others and not self._rounds.has_to_be_asked
        self._restarts.announce(
            step,
            as_seen_by(self._group_rank, verdict),
            self._restart_count,
            is_shared=is_shared,
            is_met_at_once=self._rounds.answers_at_once,
        )

    def _pause(self, seconds: float) -> None:
        """Wait for a while, unless a signal comes."""
        deadline = time.monotonic() + seconds
        while (left_s := deadline - time.monotonic()) > 0:
            self._wait_for_change(left_s)
            self._raise_if_stopped()

    def _raise_if_stopped(self) -> None:
        """Raise SignalException if a signal has come; a subclass that handles signals does."""


def call_shutdown(
    shutdown: Callable[..., None], death_sig: signal.Signals, timeout_s: float
) -> None:
    """Call an agent's ``_shutdown(death_sig, timeout)`` with as much of it as a subclass takes.

    torch's template began with no argument, then gave the signal, and later the time as well.
    """
    code = getattr(shutdown, "__code__", None)
    if code is None:  # not written in Python, or not as a function: it takes what it likes
        shutdown(death_sig, timeout=timeout_s)
        return
    first = 0 if getattr(shutdown, "__self__", None) is None else 1
    positional = code.co_varnames[first : code.co_argcount]
    named = code.co_varnames[first : code.co_argcount + code.co_kwonlyargcount]
    takes_signal = positional or code.co_flags & _TAKES_ANY_POSITIONAL
    takes_time = "timeout" in named or code.co_flags & _TAKES_ANY_NAME
    shutdown(
        *([death_sig] if takes_signal else []), **({"timeout": timeout_s} if takes_time else {})
    )
