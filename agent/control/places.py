"""Where the workers of one node are, for `elrun stacks`: as SIGUSR2 would tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..failures.stack_places import Whereabouts
from ..monitoring.whereabouts import REQUEST_DUMP_S, whereabouts, with_children
from ..system.stacks import send_by_pid

if TYPE_CHECKING:
    from .watched import Watched

MOST_CHARS = 400_000
"""How much of all stacks of a node is told."""


def places_here(watched: Watched) -> list[dict[str, Any]]:
    """Return where the workers of this node are; they have four seconds to say so.

    The main thread may stop them meanwhile, and let go of them.
    """
    context = watched.workers
    if context is None:
        return []
    rank_of = {each.local_rank: each.global_rank for each in list(watched.group.workers)}
    running, ends = context.running(), dict(context.exits)
    process_of = {each.pid: each for each in running.values()}

    def send(pid: int, number: int) -> bool:
        process = process_of.get(pid)
        return send_by_pid(pid, number) if process is None else process.signal_alone(number)

    pids = {rank_of[at]: each.pid for at, each in running.items()}
    found = with_children(whereabouts(pids, REQUEST_DUMP_S, send), REQUEST_DUMP_S, send)
    for at, end in ends.items():
        silence = f"has ended with exit code {end.exitcode}"
        found[rank_of[at]] = Whereabouts(end.pid, "", silence, "")
    most = MOST_CHARS // max(1, len(found))
    return [
        {"rank": rank, **each._asdict(), "stack": each.stack[:most]}
        for rank, each in sorted(found.items())
    ]
