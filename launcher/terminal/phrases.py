"""How ranks ended and jobs failed, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from itertools import groupby

from ...agent.failures.failure import HANG, signal_name
from ...agent.failures.report import JobReport, RankOutcome, RankState, RootCause
from ...agent.failures.stack_places import folded

FAULT_HANDLER_TITLES = ("Thread 0x", "Current thread 0x")
DEPARTURE_TITLE = "Stack (most recent call last)"
KERNEL_STACK_BEGINNING = "[<0>] "
MAX_SPANS = 40

_FAULT_HANDLER_VARIABLES = ("PYTHONFAULTHANDLER", "TORCHELASTIC_ENABLE_FILE_TIMER")
_CRASHES = ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT")


def fold(ranks: Sequence[RankOutcome]) -> Iterator[str]:
    """Say how ranks ended, a line for each way and run of ranks: ``ranks 3-997: stopped by elrun``.

    Args:
        ranks: In rank order.
    """

    def ways(outcome: RankOutcome) -> str:
        is_failed = outcome.state is RankState.FAILED
        return _ended_by(outcome) if is_failed else outcome.state.value

    numbers: dict[str, list[int]] = {}
    for outcome in ranks:
        numbers.setdefault(ways(outcome), []).append(outcome.global_rank)
    for way, members in numbers.items():
        yield f"{'ranks' if len(members) > 1 else 'rank'} {_spans(members)}: {way}"


def _spans(numbers: Sequence[int]) -> str:
    """Return rising numbers as ``3-997, 999``, or the first of very many spans."""
    spans = []
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        spans.append(f"{members[0]}-{members[-1]}" if len(members) > 1 else str(members[0]))
    more = len(spans) - MAX_SPANS
    return ", ".join(spans[:MAX_SPANS]) + (f" and {more} more spans" if more > 0 else "")


def missing_nodes(report: JobReport) -> Iterator[str]:
    """Say which nodes' ranks are not in the report, if any are not."""
    if report.missing_nodes:
        nodes = _spans(sorted(report.missing_nodes))
        yield f"nodes of group rank {nodes} did not say in time how their ranks ended"
    if report.is_of_one_node:
        yield "the ranks of the other nodes stand in the report of the first node (group rank 0)"


def agents_of(ranks: Sequence[RankOutcome]) -> dict[int, str]:
    """Return each rank's node, by global rank: its host, and which of its agents if it has several.

    Args:
        ranks: In rank order: those of one agent follow each other.
    """
    agent_of: dict[int, int] = {}
    agents: dict[str, int] = {}
    taken: dict[str, set[int]] = {}
    for each in ranks:
        if each.local_rank in taken.setdefault(each.node, set()):  # another agent's
            agents[each.node] = agents.get(each.node, 0) + 1
            taken[each.node] = set()
        taken[each.node].add(each.local_rank)
        agent_of[each.global_rank] = agents.get(each.node, 0)
    return {
        each.global_rank: f"{each.node} (agent {agent_of[each.global_rank]})"
        if each.node and agents.get(each.node)
        else each.node
        for each in ranks
    }


def ending(outcome: RankOutcome, root: RootCause) -> str:
    """Return how a rank ended, in a cell."""
    if outcome.state is RankState.FAILED:
        is_root = outcome.global_rank == root.global_rank
        if not is_root and outcome.is_consequence:
            return f"{_ended_by(outcome)} (consequence)"
        return _ended_by(outcome) + (" (first)" if is_root else "")
    end = str(outcome.state.value)
    if outcome.state is RankState.STOPPED and outcome.exitcode is not None:
        end = f"{end} ({_ended_by(outcome)})"
    return f"hung, {end}" if is_hung(outcome, root) else end


def is_hung(outcome: RankOutcome, root: RootCause) -> bool:
    """Return whether a rank is the one that the others waited for in a job that hung."""
    return root.cause == HANG and outcome.global_rank == root.global_rank


def _ended_by(outcome: RankOutcome) -> str:
    if outcome.exitcode is None:
        return "unknown end"
    if outcome.exitcode < 0:
        return signal_name(outcome.exitcode)
    return f"exit code {outcome.exitcode}"


def other_failures(report: JobReport) -> Iterator[str]:
    """Say why other ranks failed, a line for all that said the same: consequences come last."""
    said: dict[tuple[bool, str], list[RankOutcome]] = {}
    others = (each for each in report.ranks if each.global_rank != report.root.global_rank)
    for outcome in sorted(others, key=lambda each: each.global_rank):
        if outcome.state is RankState.FAILED and outcome.words:
            # Ports and addresses differ where the reason is the same.
            shape = "".join(each for each in outcome.words if not each.isdigit())
            said.setdefault((outcome.is_consequence, shape), []).append(outcome)
    for (is_consequence, _), outcomes in sorted(said.items(), key=lambda each: each[0][0]):
        ranks = _spans([each.global_rank for each in outcomes])
        who = f"{'ranks' if len(outcomes) > 1 else 'rank'} {ranks}"
        how = "failed as a consequence" if is_consequence else "failed, too"
        yield f"{who} {how}: {outcomes[0].words}"


def lost_peers(report: JobReport) -> str:
    """Say which ranks a first failure may be about that only tells of a lost peer; else nothing."""
    root = report.root
    if root.global_rank < 0 or not root.is_consequence:
        return ""
    others = [each for each in report.ranks if each.global_rank != root.global_rank]
    for state, what in (
        (RankState.SUCCEEDED, "had ended with exit code 0 before"),
        (RankState.STOPPED, "still ran"),
    ):
        found = sorted(
            (each for each in others if each.state is state), key=lambda each: each.global_rank
        )
        if found:
            ranks = _spans([each.global_rank for each in found])
            subject = f"{'ranks' if len(found) > 1 else 'rank'} {ranks}"
            sentence = f"it lost or missed another rank, and none has told why: {subject} {what}"
            places = {each.global_rank: each.words for each in found if each.words}
            if len(found) == 1 and places:
                return f"{sentence}, in {found[0].words}"
            return f"{sentence}: {folded(places)}" if places else sentence
    return ""


def hint_about(root: RootCause, program: str, environment: Mapping[str, str]) -> str:
    """Say what would show where a Python program crashed, where nothing else does.

    Args:
        root: The job's first failure.
        environment: Of elrun: whether workers show their stack anyway.
    """
    name = signal_name(root.exitcode)
    shows_stack = any(each in root.traceback for each in FAULT_HANDLER_TITLES) or any(
        each in environment for each in _FAULT_HANDLER_VARIABLES
    )
    is_python = program.endswith(".py") or environment.get("ELRUN_WORKER_HOOK") == "0"
    if name in _CRASHES and is_python and not shows_stack:
        return "PYTHONFAULTHANDLER=1 in the environment shows where a Python program crashes"
    return ""


def after(outcome: RankOutcome) -> str:
    """Return the time from the first failure to a rank's end: ``+0.12 s``, or nothing."""
    return "" if outcome.after_s is None else f"{outcome.after_s:+.2f} s"


def moment_of(timestamp: int) -> str:
    """Return a time in seconds since the epoch as ``at`` and the local time."""
    try:
        moment = datetime.fromtimestamp(timestamp, tz=timezone.utc).astimezone()
    except (OverflowError, OSError, ValueError):  # another node's word
        return "at an unknown time"
    return f"at {moment:%Y-%m-%d %H:%M:%S %Z}"
