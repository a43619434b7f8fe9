"""What ``elrun status`` shows of one agent: its phase, its restarts, and its workers."""

from __future__ import annotations

import os
import signal

from ...rendezvous.errors import RendezvousConnectionError
from ..workers.worker import WorkerState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ...rendezvous.api.handler import Verdict
    from ..processes.context import PContext
    from ..processes.results import WorkerExit
    from .watched import Watched

VERSION = 1
_MOST_LINE_BYTES = 500
_PHASES = {
    WorkerState.INIT: "starting",
    WorkerState.HEALTHY: "running",
    WorkerState.UNHEALTHY: "unhealthy",
    WorkerState.STOPPED: "starting",
    WorkerState.SUCCEEDED: "succeeded",
    WorkerState.FAILED: "failed",
    WorkerState.UNKNOWN: "unknown",
}

_BY_VERDICT = ("ending", "stopping")


def phase_of(
    state: WorkerState, verdict: Verdict | None, *, has_place: bool, is_stopped: bool
) -> str:
    """Return what an agent does, in one word.

    Args:
        verdict: How its round has ended, if it has.
        is_stopped: Whether it was told to stop.
    """
    if is_stopped:
        return "stopping"
    if not has_place:
        return "meeting"
    if verdict is not None and state is not WorkerState.SUCCEEDED:
        return "ending" if verdict.kind.ends_run else "stopping"
    return _PHASES[state]


def standing_of(watched: Watched, now: float) -> dict[str, Any]:
    """Return how an agent stands, as one JSON object.

    Args:
        now: The time by the monotonic clock.
    """
    group, rounds = watched.group, watched.rounds
    number, spent = watched.progress()
    stopped_at = watched.inbox.first_at
    decision, decided_at = watched.last_decision()
    most = group.spec.max_restarts
    is_stopped = stopped_at <= now
    workers, verdict = list(group.workers), _verdict_of(watched)
    state = phase_of(
        group.state, verdict, has_place=group.group_rank is not None, is_stopped=is_stopped
    )
    since: float | None = group.state_since
    if is_stopped:
        since = stopped_at
    elif state in _BY_VERDICT:  # known once the decision is announced
        since = decided_at if decided_at > group.state_since else None
    return {
        "version": VERSION,
        "run_id": rounds.get_run_id(),
        "node": os.uname().nodename,
        "agent_pid": os.getpid(),
        "state": state,
        "since_s": None if since is None else round(now - since, 3),
        "round": number,
        "group_rank": group.group_rank,
        "group_world_size": group.group_world_size,
        "world_size": workers[0].world_size,
        "restarts": {"spent": spent, "left": max(0, most - spent), "max": most},
        "decision": {"text": decision, "ago_s": round(now - decided_at, 3)} if decision else None,
        "workers": _workers_of(watched, now) if group.group_rank is not None else [],
    }


def _verdict_of(watched: Watched) -> Verdict | None:
    try:
        return watched.rounds.verdict()
    except RendezvousConnectionError:
        return None


def _workers_of(watched: Watched, now: float) -> list[dict[str, Any]]:
    context = watched.workers
    if context is None:
        return []
    pids, exits = context.pids(), dict(context.exits)
    outs, errs, ends = context.stdouts, context.stderrs, context.kept_ends()
    found = []
    for worker in list(watched.group.workers):
        at = worker.local_rank
        text, printed_at, _ = ends.get(at, (b"", None, 0))
        found.append(
            {
                "rank": worker.global_rank,
                "local_rank": at,
                "pid": pids.get(at),
                "state": _state_of(exits.get(at)),
                "exitcode": exits[at].exitcode if at in exits else None,
                "logs": sorted({path for path in (outs[at], errs[at]) if _is_file(path)}),
                "last_line": last_line_of(text),
                "silent_s": None if printed_at is None else round(max(0.0, now - printed_at), 3),
            }
        )
    return found


def _is_file(path: str) -> bool:
    return path not in ("", os.devnull)


def _state_of(end: WorkerExit | None) -> str:
    if end is None:
        return "running"
    code = end.exitcode
    if code >= 0:
        return "succeeded" if code == 0 else f"failed ({code})"
    try:
        return f"killed ({signal.Signals(-code).name})"
    except ValueError:  # a real-time signal
        return f"killed ({-code})"


def last_line_of(text: bytes) -> str | None:
    """Return the last line that is not empty; None: there is none."""
    lines = text[-4 * _MOST_LINE_BYTES :].replace(b"\r", b"\n").split(b"\n")
    last = next((line for line in reversed(lines) if line.strip()), None)
    return None if last is None else last[:_MOST_LINE_BYTES].decode(errors="replace")


def attempt_of(watched: Watched, context: PContext) -> Mapping[str, Any]:
    """Return which ranks an attempt has, and where their log files are."""
    number, spent = watched.progress()
    outs, errs = context.stdouts, context.stderrs
    return {
        "round": number,
        "restarts_before": spent,
        "ranks": [
            {
                "rank": worker.global_rank,
                "local_rank": worker.local_rank,
                "stdout": outs[worker.local_rank] if _is_file(outs[worker.local_rank]) else "",
                "stderr": errs[worker.local_rank] if _is_file(errs[worker.local_rank]) else "",
            }
            for worker in watched.group.workers
        ],
    }
