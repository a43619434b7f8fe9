"""How the ranks of a failed job ended: this node's, and those of the nodes that report."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from ...rendezvous.api.handler import RoundHandler
from ...rendezvous.errors import RendezvousConnectionError
from ...rendezvous.logs import Log
from ..failures.failure import HANG
from ..failures.report import RankOutcome, RankState, RootCause
from ..processes.start import PContext, WorkerExit
from ..workers.worker import WorkerGroup
from .post_mortem import Finding

log = Log(__name__)

OUTCOMES_TIMEOUT_S = 5.0


def outcomes_of(
    group: WorkerGroup,
    processes: PContext,
    root: RootCause,
    findings: Mapping[int, Finding],
    failed_at: float,
) -> list[RankOutcome]:
    """Return how this node's ranks ended, seen from the first failure.

    Args:
        processes: Its processes, all ended.
        root: The job's first failure.
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
    is_hang = root.cause == HANG
    if is_hang:  # what else ranks left, they left when elrun stopped them
        findings = {rank: each for rank, each in findings.items() if each.failure.cause == HANG}
    outcomes = []
    for worker in group.workers:
        end = exits.get(worker.local_rank)
        found = findings.get(worker.global_rank)
        state = _state_of(end, found, is_hang=is_hang)
        outcomes.append(
            RankOutcome(
                global_rank=worker.global_rank,
                local_rank=worker.local_rank,
                node=os.uname().nodename,
                pid=end.pid if end else 0,
                exitcode=_exitcode_of(end, found, state),
                state=state,
                after_s=round(end.ended_at - first_at, 3) if end else None,
                file=_file_of(found) or log_files[worker.local_rank],
                words="" if found is None else found.words_with_lost_peer,
            )
        )
    return outcomes


def _state_of(end: WorkerExit | None, found: Finding | None, *, is_hang: bool) -> RankState:
    if end is None:
        return RankState.STOPPED
    if end.exitcode == 0 and found is None:
        return RankState.SUCCEEDED
    return RankState.STOPPED if end.stopped or is_hang else RankState.FAILED


def _file_of(found: Finding | None) -> str:
    if found is None:
        return ""
    return found.failure.error_file if found.has_record else found.log_file


def _exitcode_of(end: WorkerExit | None, found: Finding | None, state: RankState) -> int | None:
    if found is not None and state is RankState.FAILED:  # whatever it left in answer to its end
        return found.failure.exitcode
    return None if end is None else end.exitcode


def exchanged(
    rounds: RoundHandler,
    group: WorkerGroup,
    mine: list[RankOutcome],
    ask: Callable[[Callable[[], None]], None],
) -> tuple[list[RankOutcome], tuple[int, ...]]:
    """Report to the other nodes; return all known outcomes, and the nodes without a report."""
    import json  # 3 ms of a restart, of which one node needs none

    report = json.dumps([each.to_json() for each in mine]).encode()
    try:
        ask(lambda: rounds.publish(report))
        if group.group_rank != 0:
            return mine, ()
        reports: list[bytes | None] = []
        ask(lambda: reports.extend(rounds.collect(OUTCOMES_TIMEOUT_S)))
        return _gathered(reports, mine)
    except RendezvousConnectionError as error:
        log.info("the other nodes' outcomes are not known: %s", error)
        nodes = range(group.group_world_size or 1)
        return mine, tuple(rank for rank in nodes if rank != group.group_rank)


def _gathered(
    reports: Sequence[bytes | None], mine: list[RankOutcome]
) -> tuple[list[RankOutcome], tuple[int, ...]]:
    import json

    ranks = list(mine)
    missing = []
    for group_rank, report in enumerate(reports):
        if group_rank == 0:
            continue
        try:
            ranks += [RankOutcome.from_json(each) for each in json.loads(report or b"")]
        except (ValueError, TypeError, RecursionError) as error:
            log.info("the outcome of node %d is not known: %s", group_rank, error)
            missing.append(group_rank)
    return ranks, tuple(missing)
