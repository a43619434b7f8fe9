"""Where the workers of one node are, for `elrun stacks`: as SIGUSR2 would tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..monitoring.whereabouts import whereabouts_of_attempt

if TYPE_CHECKING:
    from .watched import Watched

MOST_CHARS = 400_000
"""How much of all stacks of a node is told."""


def places_here(watched: Watched) -> list[dict[str, Any]]:
    """Return where the workers of this node are; see ``whereabouts_of_attempt``."""
    context = watched.workers
    if context is None:
        return []
    rank_of = {each.local_rank: each.global_rank for each in list(watched.group.workers)}
    found = whereabouts_of_attempt(rank_of, context.running(), dict(context.exits))
    most = MOST_CHARS // max(1, len(found))
    return [
        {"rank": rank, **each._asdict(), "stack": each.stack[:most]}
        for rank, each in sorted(found.items())
    ]
