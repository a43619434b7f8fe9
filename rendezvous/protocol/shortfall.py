"""What to tell people while too few nodes are there, and when too few came: who, and who not."""

from __future__ import annotations

from collections.abc import Mapping

from .naming import name_hosts, name_members, name_ranks
from .records import History, Limits, Node
from .round import absent_members, missing_ranks, present

_MOST_CONTRADICTIONS = 3


def shortfall(
    seated: Mapping[int, Node], history: History | None, *, mine: Limits, within_s: float
) -> str:
    """Return what to say of a round that did not come about.

    Args:
        seated: The records that are there, by seat.
        history: The round before, if there was one.
        mine: What the node that gives up was told.
        within_s: For how long it has waited.
    """
    there = present(seated, mine)
    said = (
        f"{len(there)} of {mine.min_nodes} nodes joined within {within_s:g} s "
        "(--rdzv-conf join_timeout=...)"
    )
    if there:
        said += f": {name_hosts(there.values())}"
    said += contradictions(seated, mine)
    ranks = missing_ranks(there, mine)
    if ranks:
        return f"{said}; {name_ranks(ranks)} missing"
    if history is None:
        return f"{said}; the others need the same --rdzv-endpoint and --rdzv-id"
    missing = name_members(sorted(absent_members(there, history)), history.roster)
    return f"{said}; missing since round {history.roster.round}: {missing}" if missing else said


def progress(count: int, seated: Mapping[int, Node], mine: Limits) -> str:
    """Return what to say of a round that has not come about yet.

    Args:
        count: How many nodes are there.
        seated: The records of those that are to be named, by seat.
        mine: What the node that waits was told.
    """
    wanted = f"{mine.min_nodes}" if mine.min_nodes == mine.max_nodes else f"{mine}"
    said = f"{count} of {wanted} nodes {'is' if count == 1 else 'are'} here"
    if seated:
        said += f" ({name_hosts(seated.values())})"
    ranks = missing_ranks(seated, mine)
    if ranks:
        return f"{said}; {name_ranks(ranks)} missing"
    missing = mine.min_nodes - count
    return (
        f"{said}; {missing} more {'is' if missing == 1 else 'are'} needed" if missing > 0 else said
    )


def contradictions(seated: Mapping[int, Node], mine: Limits) -> str:
    """Return what to add about nodes that came and were refused, as they were told other limits.

    Args:
        seated: The records that are there, by seat; a node that has left again keeps its record.
        mine: What the node that waits was told.
    """
    others = {node.limits: node for node in seated.values() if node.limits != mine}
    return "".join(
        f"; {name_hosts([node])} was refused, as it was told {_difference(limits, mine)}: give "
        "the same on every node"
        for limits, node in list(others.items())[:_MOST_CONTRADICTIONS]
    )


def _difference(limits: Limits, mine: Limits) -> str:
    if limits.max_restarts != mine.max_restarts:
        return f"--max-restarts {limits.max_restarts} and this node {mine.max_restarts}"
    return f"--nnodes {limits} and this node {mine}"
