"""A failed attempt as one value: made when the failure is seen, the source of each report.

The verdict that the other nodes get, the sentence about a restart, and the report with its summary
and exit code come from that value, so that they can't differ.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from ...rendezvous.api.handler import RoundHandler, Verdict, VerdictKind
from ...rendezvous.logs import Log
from ...rendezvous.named_tuple import NamedTuple
from ..failures.cause import WAIT_FOR_CAUSE_S
from ..failures.chain import causes_in
from ..failures.failure import HANG, EndAlone, ProcessFailure, type_before
from ..failures.last_words import Speech, place_of_abort
from ..failures.memory_events import KernelWatch
from ..failures.report import JobReport, RankOutcome, RankState, RootCause
from ..failures.signal_cause import explain, gather
from ..failures.traceback_place import bare_place, innermost_place
from ..processes.start import PContext
from ..workers.worker import RunResult, WorkerGroup, WorkerState
from .post_mortem import Finding, findings_about

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

log = Log(__name__)

MAX_MESSAGE_CHARS = 1_000
_RENDEZVOUS_OF_TORCH = "rendezvous.py"
_GPU_CHOICE = "CUDA_VISIBLE_DEVICES"
_UNREADABLE = (OSError, ImportError, SyntaxError)
"""A module's file can't be read: there are no descriptors, or elrun is being replaced on disk."""


class FailedAttempt(NamedTuple):
    """An attempt that failed, as this node knows it.

    Args:
        kernel: What the kernel has counted and logged since the attempt began.
        findings: What is known of this node's failed workers, by global rank: the cause first,
            its consequences last.
        root: The first failure of this node; None: none of its workers has failed.
        named: The root cause that the round's verdict names; None: there is none yet.
        is_author: Whether this node has written the verdict.
        places: Where this node's running ranks were before the stop, by global rank, if the first
            failure only tells of a lost peer.
    """

    group: WorkerGroup
    processes: PContext
    kernel: KernelWatch
    findings: Mapping[int, Finding]
    root: RootCause | None
    named: RootCause | None = None
    is_author: bool = True
    places: Mapping[int, str] = {}

    @classmethod
    def of(
        cls,
        group: WorkerGroup,
        processes: PContext,
        kernel: KernelWatch,
        findings: Mapping[int, Finding],
    ) -> FailedAttempt:
        """Return a failed attempt; the first cause among the findings is the root cause.

        Args:
            kernel: What the kernel has counted and logged since the attempt began.
            findings: As ``findings_about`` returns them; there may be none here.
        """
        root = _root_cause_in(findings, processes, kernel) if findings else None
        return cls(group, processes, kernel, findings, root)

    @property
    def failures(self) -> dict[int, ProcessFailure]:
        """This node's failed workers by global rank, the cause first."""
        return {rank: finding.failure for rank, finding in self.findings.items()}

    def verdict(self, by: int) -> Verdict:
        """Return how the round ends by it; there is a root cause.

        Args:
            by: This node's group rank.
        """
        root = self.root
        reason, details = ("", {}) if root is None else (root.reason, root.to_json())
        return Verdict(VerdictKind.WORKER_FAILED, by=by, reason=reason, details=details)

    def stopped(self, verdict: Verdict | None, by: int, places: Mapping[int, str]) -> FailedAttempt:
        """Return the attempt as it is known once its workers were stopped.

        Others may have failed meanwhile, and the log says all it can. The node that wrote the
        verdict puts the rank first that the verdict names, though another one may turn out to have
        failed a little earlier. A job of one node has no such promise to keep.

        Args:
            verdict: The round's verdict.
            by: This node's group rank.
            places: Where running ranks were before the stop, if that was asked.
        """
        failures = self.failures
        if self.root is None or self.root.cause != HANG:  # else all that came since is of the stop
            failures = failures_so_far(self.group, self.processes, failures)
        named = _named_by(verdict)
        is_author = verdict is not None and verdict.by == by
        is_shared = (self.group.group_world_size or 1) > 1  # else nobody has been told a name
        rank = named.global_rank if is_author and is_shared else None
        findings = findings_about(failures, self.processes, rank)
        now = FailedAttempt.of(self.group, self.processes, self.kernel, findings)
        if self.root and now.root and self.root.pid == now.root.pid and self.root.kernel_words:
            # The kernel knows most of a process that isn't reaped yet.
            now = now._replace(root=now.root._replace(kernel_words=self.root.kernel_words))
        return now._replace(named=named, is_author=is_author, places=places)

    def result(
        self,
        rounds: RoundHandler,
        restarts: int,
        failed_at: float,
        ask: Callable[[Callable[[], Any]], Any],
    ) -> RunResult:
        """Return the result of the failed job: this node's ranks, and the others' that reported.

        Every node reports how its ranks ended. Group rank 0 waits for these reports, 5 s at most,
        so that one screen shows the whole job and the nodes together read each outcome once. The
        nodes agree on the root cause meanwhile.

        Args:
            rounds: Carries the nodes' reports.
            failed_at: When this node learned of the failure, by ``time.monotonic()``.
            ask: Calls what asks the store, for a bounded time.
        """
        missing: tuple[int, ...] = ()
        named = self.named or _named_by(None)
        if (self.group.group_world_size or 1) == 1:
            root = self.root or named
            ranks = self._outcomes(root, failed_at)
        else:
            from .agreement import Agreement, proposal_of  # once the workers have been stopped
            from .outcomes import exchanged

            proposal = proposal_of(named, self.root, is_author=self.is_author)
            agreement = Agreement(rounds, ask, named, proposal)
            ranks = self._outcomes(agreement.root, failed_at)
            ranks, missing = exchanged(rounds, self.group, ranks, ask)
            root = agreement.finish(knows_all=self.group.group_rank == 0)
        report = JobReport(
            name=self.group.spec.get_entrypoint_name(),
            root=root,
            ranks=tuple(sorted(ranks, key=lambda each: each.global_rank)),
            restarts=restarts,
            max_restarts=self.group.spec.max_restarts,
            missing_nodes=missing,
            is_of_one_node=(self.group.group_rank or 0) > 0,
        )
        described = self.described()
        if root.cause == HANG:
            described = {rank: each for rank, each in described.items() if each.cause == HANG}
        every = {root.global_rank: _as_failure(root), **described}
        return RunResult(WorkerState.FAILED, failures=every, report=report)

    def described(self) -> dict[int, ProcessFailure]:
        """Return this node's failed workers, each with what it said in its output, too."""
        first = None if self.root is None else self.root.global_rank
        return {
            rank: each.failure
            if each.has_record
            else _as_failure(
                self.root
                if self.root is not None and rank == first
                else _root_cause_in({rank: each}, self.processes, self.kernel)
            )
            for rank, each in self.findings.items()
        }

    def _outcomes(self, root: RootCause, failed_at: float) -> list[RankOutcome]:
        from .outcomes import outcomes_of  # once the workers have been stopped

        outcomes = outcomes_of(self.group, self.processes, root, self.findings, failed_at)
        return [
            each._replace(words=self.places.get(each.global_rank, ""))
            if each.state is RankState.STOPPED and not each.words
            else each
            for each in outcomes
        ]


def failures_so_far(
    group: WorkerGroup, processes: PContext, known: Mapping[int, ProcessFailure]
) -> dict[int, ProcessFailure]:
    """Return the failures that are known, then those that came since, by global rank."""
    ended = processes.look()
    if ended is None:
        return dict(known)
    rank_of = {worker.local_rank: worker.global_rank for worker in group.workers}
    late = {rank_of[local]: failure for local, failure in ended.failures.items()}
    return {**known, **late, **known}


def findings_with_cause(
    group: WorkerGroup,
    processes: PContext,
    failures: Mapping[int, ProcessFailure],
    rounds: RoundHandler,
    wait: Callable[[Sequence[int], float | None], None],
) -> dict[int, Finding]:
    """Return what failed workers left, and the rank that caused that, if it ends a moment later.

    Args:
        failures: Those that have failed, by global rank.
        rounds: Say whether another node has found the cause.
        wait: Waits for descriptors, so many seconds at most.
    """
    failed = dict(failures)
    findings = findings_about(failed, processes)
    deadline = time.monotonic() + WAIT_FOR_CAUSE_S
    while (
        findings
        and (processes.running_pids() or (group.group_world_size or 1) > 1)
        and all(each.is_consequence for each in findings.values())
        and (left_s := deadline - time.monotonic()) > 0
        and rounds.verdict() is None
    ):
        wait(processes.filenos(), left_s)
        failed = failures_so_far(group, processes, failed)
        findings = findings_about(failed, processes)
    return findings


def _root_cause_in(
    findings: Mapping[int, Finding], processes: PContext, kernel: KernelWatch
) -> RootCause:
    """Return this node's failure that is no consequence of another, as other nodes can read it."""
    rank, finding = next(iter(findings.items()))
    failure, said = finding.failure, finding.said
    departure = failure.departure
    (log_file,) = processes.log_files([failure.local_rank]).values()
    file = failure.error_file if finding.has_record else finding.log_file or log_file
    root = RootCause(
        global_rank=rank,
        local_rank=failure.local_rank,
        node=os.uname().nodename,
        pid=failure.pid,
        exitcode=failure.exitcode,
        timestamp=failure.timestamp,
        message=(said.words or failure.summary)[:MAX_MESSAGE_CHARS],
        traceback=_shortened(said.text or (departure.stack if departure else ""), file),
        file=file,
        exception=_exception_of(finding),
        says_why=bool(said.words) or failure.says_why,
        bases=failure.bases if finding.has_record else (),
        cause=failure.cause,
        is_consequence=finding.is_consequence,
    )
    end = processes.exits.get(failure.local_rank)
    if failure.exitcode < 0 and end is not None and end.marked:  # elrun has sent the signal
        return root
    about_kernel = explain(gather(failure.exitcode, failure.pid, kernel))
    causes = [cause.words for cause in causes_in(said.text)]
    about_words = _about_exception(root, causes)
    if other_store := _about_store(said.text, processes.envs.get(failure.local_rank, {})):
        root, about_words = root._replace(is_consequence=False), other_store
    about_child = f"printed before: {finding.of_child}" if finding.of_child else ""
    known = filter(None, (*_about_place(finding), about_child, about_kernel, about_words))
    return root._replace(kernel_words="; ".join(known)[:MAX_MESSAGE_CHARS])


def _shortened(traceback: str, file: str) -> str:
    if not traceback:
        return ""
    try:
        from ..failures.shortening import shortened_traceback  # the others learn of a kill sooner
    except _UNREADABLE:
        return traceback[-MAX_MESSAGE_CHARS:]
    return shortened_traceback(traceback, file)


def _about_exception(root: RootCause, causes: Sequence[str]) -> str:
    """Return what the machine says about an exception; of a kill, only the kernel knows more."""
    if not root.says_why and not causes:
        return ""
    try:
        from ..failures.machine_facts import explain_exception  # the others learn of a kill sooner
    except _UNREADABLE:
        return ""
    return explain_exception("\n".join([root.message, *causes]), root.pid, _gpus_in_sight)


def _about_store(traceback: str, environment: Mapping[str, str]) -> str:
    """Return what is wrong about the port at which a worker has looked for its store."""
    if _RENDEZVOUS_OF_TORCH not in traceback:  # most failures
        return ""
    try:
        from ..failures.other_store import about_other_store  # as above
    except _UNREADABLE:
        return ""
    return about_other_store(traceback, environment)


def _about_place(finding: Finding) -> Iterator[str]:
    """Say where a program left that told no reason, and which thread it had lost before."""
    departure, said = finding.failure.departure, finding.said
    if before := finding.failure.before or (departure.before if departure else ""):
        yield f"before that, {before}"
    if departure is not None:
        place = innermost_place(departure.stack)
        yield f"it {departure.words}{f' in {place}' if place else ''}"
    elif said.speech is Speech.TRACEBACK and (place := bare_place(said.words, said.text)):
        yield f"raised in {place}"
    elif said.speech is Speech.TERMINATE and (
        place := place_of_abort(finding.failure.traceback or "")
    ):
        yield f"it was in {place}"


def _gpus_in_sight() -> tuple[int | None, str]:
    """Return how many GPUs workers of this node see, and the variable that hides some of them."""
    from ..hardware.gpus import visible_gpus  # few failures
    from ..system.environ import inherited_environment

    variables = inherited_environment()
    choice = variables.get(_GPU_CHOICE)
    hides = "" if choice is None else f"{_GPU_CHOICE} is {choice!r}"
    return len(visible_gpus(variables)), hides


def _named_by(verdict: Verdict | None) -> RootCause:
    """Return the root cause that a verdict names: a worker, or what its reason says."""
    if verdict is not None and verdict.details:
        with contextlib.suppress(ValueError):  # another agent's
            return RootCause.from_json(dict(verdict.details))
    reason = (verdict and verdict.reason) or "the workers are unhealthy"
    return RootCause(-1, -1, "", 0, 1, int(time.time()), reason)


def _exception_of(finding: Finding) -> str:
    if finding.has_record:
        return finding.failure.exception
    return type_before(finding.words) if finding.said.speech is Speech.TRACEBACK else ""


def _as_failure(root: RootCause) -> ProcessFailure:
    failure = ProcessFailure(root.local_rank, root.pid, root.exitcode, "")
    failure.timestamp = root.timestamp
    if root.traceback:
        failure.message = {
            "message": root.message,
            "extraInfo": {
                "py_callstack": root.traceback,
                "timestamp": str(root.timestamp),
                "cause": root.cause,
            },
        }
    else:
        message = ": ".join(filter(None, [root.message, root.kernel_words]))
        failure.message = root.message if root.says_why else EndAlone(message)
    return failure
