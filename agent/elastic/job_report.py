"""Turns the ends of worker processes into the job's report, together with the other nodes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from ...rendezvous.api.handler import RoundHandler
from ...rendezvous.errors import RendezvousConnectionError
from ..failures.failure import ProcessFailure, type_before
from ..failures.last_words import Speech
from ..failures.memory_events import MemoryEvents
from ..failures.report import JobReport, RankOutcome, RankState, RootCause
from ..failures.signal_cause import explain, gather
from ..processes.start import PContext
from ..workers.worker import RunResult, WorkerGroup, WorkerState
from .post_mortem import Finding, findings_about

log = logging.getLogger(__name__)

OUTCOMES_TIMEOUT_S = 5.0
MAX_MESSAGE_CHARS = 1_000
MAX_TRACEBACK_CHARS = 16_000
MAX_WORDS_CHARS = 300


def root_cause_of(
    failures: Mapping[int, ProcessFailure], processes: PContext, node: str, before: MemoryEvents
) -> RootCause:
    """Return this node's failure that is no consequence of another, as other nodes can read it.

    Args:
        failures: Failed workers by global rank, the first one first.
        processes: Where their log files are known.
        node: This node's host name.
        before: The kernel's count of kills for want of memory when the attempt began.
    """
    rank, finding = next(iter(findings_about(failures, processes).items()))
    failure, said = finding.failure, finding.said
    (log_file,) = processes.log_files([failure.local_rank]).values()
    root = RootCause(
        global_rank=rank,
        local_rank=failure.local_rank,
        node=node,
        pid=failure.pid,
        exitcode=failure.exitcode,
        timestamp=failure.timestamp,
        message=(said.words or failure.summary)[:MAX_MESSAGE_CHARS],
        traceback=_end_of(said.text),
        file=failure.error_file if finding.has_record else log_file,
        exception=_exception_of(finding),
    )
    is_ended_by_elrun = not finding.has_record and not said.words and bool(root.words)
    if failure.exitcode < 0 and is_ended_by_elrun:  # and elrun says why
        return root
    return root._replace(kernel_words=explain(gather(failure.exitcode, failure.pid, before)))


def _exception_of(finding: Finding) -> str:
    if finding.has_record:
        return finding.failure.exception
    return type_before(finding.words) if finding.said.speech is Speech.TRACEBACK else ""


def conclude_report(
    rounds: RoundHandler,
    group: WorkerGroup,
    processes: PContext,
    root: RootCause,
    *,
    node: str,
    failures: dict[int, ProcessFailure],
    restarts: int,
    failed_at: float,
    ask: Callable[[Callable[[], None]], None],
) -> RunResult:
    """Return the result of a failed job: this node's ranks, and the other nodes' as far as told.

    Every node tells how its ranks ended; group rank 0 waits for what the others tell, 5 s at most,
    so that one screen shows the whole job and the nodes together read each outcome once.

    Args:
        rounds: How nodes tell each other.
        group: This node's worker group, stopped.
        processes: Its processes.
        root: The job's first failure.
        node: This node's host name.
        failures: This node's failures by global rank.
        restarts: Restarts that the job has spent.
        failed_at: When this node learned of the failure, by ``time.monotonic()``.
        ask: Calls what asks the store, for a bounded time.
    """
    findings = findings_about(failures, processes)
    ranks = outcomes_of(group, processes, root, node, findings, failed_at)
    missing: tuple[int, ...] = ()
    nodes = group.group_world_size or 1
    if nodes > 1:
        import json  # noqa: PLC0415  3 ms of a restart, of which one node needs none

        told = json.dumps([each.to_json() for each in ranks]).encode()
        try:
            ask(lambda: rounds.publish(told))
            if group.group_rank == 0:
                ranks, missing = _gather(rounds, ranks)
        except RendezvousConnectionError as error:
            log.info("the other nodes' outcomes are not known: %s", error)
            missing = tuple(rank for rank in range(nodes) if rank != group.group_rank)
    report = JobReport(
        name=group.spec.get_entrypoint_name(),
        root=root,
        ranks=tuple(sorted(ranks, key=lambda each: each.global_rank)),
        restarts=restarts,
        max_restarts=group.spec.max_restarts,
        missing_nodes=missing,
    )
    every = {root.global_rank: _as_failure(root), **failures}
    return RunResult(WorkerState.FAILED, failures=every, report=report)


def outcomes_of(
    group: WorkerGroup,
    processes: PContext,
    root: RootCause,
    node: str,
    findings: Mapping[int, Finding],
    failed_at: float,
) -> list[RankOutcome]:
    """Return how this node's ranks ended, seen from the first failure.

    Args:
        group: The node's worker group.
        processes: Its processes, all ended.
        root: The job's first failure.
        node: This node's host name.
        findings: What is known of this node's failures, by global rank.
        failed_at: When this node learned of the failure, by ``time.monotonic()``: where it is
            another node's, the nearest to its time that this node's clock can say.
    """
    exits = processes.exits
    first_at = failed_at
    for worker in group.workers:
        if worker.global_rank == root.global_rank and worker.local_rank in exits:
            first_at = exits[worker.local_rank].ended_at
    log_files = processes.log_files(worker.local_rank for worker in group.workers)
    outcomes = []
    for worker in group.workers:
        end = exits.get(worker.local_rank)
        found = findings.get(worker.global_rank)
        if end is None:
            state = RankState.STOPPED
        elif end.exitcode == 0:
            state = RankState.SUCCEEDED
        else:
            state = RankState.STOPPED if end.stopped else RankState.FAILED
        outcomes.append(
            RankOutcome(
                global_rank=worker.global_rank,
                local_rank=worker.local_rank,
                node=node,
                pid=end.pid if end else 0,
                exitcode=end.exitcode if end else None,
                state=state,
                after_s=round(max(0.0, end.ended_at - first_at), 3) if end else None,
                file=found.failure.error_file
                if found is not None and found.has_record
                else log_files[worker.local_rank],
                words="" if found is None else found.words[:MAX_WORDS_CHARS],
            )
        )
    return outcomes


def _gather(
    rounds: RoundHandler, mine: list[RankOutcome]
) -> tuple[list[RankOutcome], tuple[int, ...]]:
    import json  # noqa: PLC0415

    ranks = list(mine)
    missing = []
    for group_rank, told in enumerate(rounds.collect(OUTCOMES_TIMEOUT_S)):
        if group_rank == 0:
            continue
        try:
            ranks += [RankOutcome.from_json(each) for each in json.loads(told or b"")]
        except (ValueError, TypeError, RecursionError) as error:
            log.info("the outcome of node %d is not known: %s", group_rank, error)
            missing.append(group_rank)
    return ranks, tuple(missing)


def _as_failure(root: RootCause) -> ProcessFailure:
    failure = ProcessFailure(root.local_rank, root.pid, root.exitcode, "")
    failure.timestamp = root.timestamp
    if root.traceback:
        failure.message = {
            "message": root.message,
            "extraInfo": {"py_callstack": root.traceback, "timestamp": str(root.timestamp)},
        }
    else:
        failure.message = root.message
    return failure


def _end_of(text: str) -> str:
    """Return the end of a text, of whole lines."""
    if len(text) <= MAX_TRACEBACK_CHARS:
        return text
    return text[-MAX_TRACEBACK_CHARS:].partition("\n")[2]
