"""The names of nodes in sentences for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from .records import Node, Roster
from .roster import natural_key

_MOST_NAMES = 8


def name_members(ranks: Iterable[int], roster: Roster | None) -> str:
    """Return members of a round by host and group rank: ``node1 (group rank 1) and …``."""
    members = () if roster is None else roster.members
    hosts = dict(enumerate(member.node.host for member in members))
    return _enumerate([f"{hosts.get(rank, 'a node')} (group rank {rank})" for rank in ranks])


def name_hosts(nodes: Iterable[Node]) -> str:
    """Return nodes by host, for nodes that have no rank yet."""
    counts = Counter(node.host for node in nodes)
    hosts = sorted(counts, key=natural_key)
    return _enumerate(
        [host if counts[host] == 1 else f"{host} ({counts[host]} nodes)" for host in hosts]
    )


def name_ranks(ranks: Sequence[int]) -> str:
    """Return node ranks with their verb: ``node ranks 1 and 2 are``."""
    names = _enumerate([str(rank) for rank in ranks])
    return f"node rank {names} is" if len(ranks) == 1 else f"node ranks {names} are"


def _enumerate(names: Sequence[str]) -> str:
    if len(names) > _MOST_NAMES + 1:
        names = [*names[:_MOST_NAMES], f"{len(names) - _MOST_NAMES} more"]
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
