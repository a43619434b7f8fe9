"""Ranks of workers, computed from the number and the role of each node's workers.

elrun's own rendezvous settles ranks together with the roster. This module computes them for
handlers that were written for torchrun: these leave ranks to the agents, which share a store.
"""

from __future__ import annotations

from collections import Counter

from ...rendezvous.api.handler import Placement
from ...rendezvous.named_tuple import NamedTuple
from .worker import Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

_ROLE_INFO_KEY = "torchelastic/role_info/{}"
_ASSIGNED_RANKS_KEY = "torchelastic/assigned_ranks/{}"


class RankSpan(NamedTuple):
    """The ranks of one node's workers.

    Args:
        first_rank: Global rank of its local rank 0.
        world_size: Number of workers over all nodes.
        first_role_rank: Role rank of its local rank 0.
        role_world_size: Number of workers of its role over all nodes.
    """

    first_rank: int
    world_size: int
    first_role_rank: int
    role_world_size: int

    @staticmethod
    def of(placement: Placement) -> RankSpan:
        """Return the span that a rendezvous has settled."""
        return RankSpan(
            placement.first_rank,
            placement.world_size,
            placement.first_role_rank,
            placement.role_world_size,
        )

    def workers(self, local_world_size: int) -> list[Worker]:
        """Return the node's workers with their ranks."""
        return [
            Worker(
                local_rank,
                global_rank=self.first_rank + local_rank,
                role_rank=self.first_role_rank + local_rank,
                world_size=self.world_size,
                role_world_size=self.role_world_size,
            )
            for local_rank in range(local_world_size)
        ]


class _RoleInstanceInfo(NamedTuple):
    """What each agent publishes: its role, its group rank, its number of workers."""

    role: str
    rank: int
    local_world_size: int

    def serialize(self) -> bytes:
        """Return the fields as JSON."""
        import json  # plug-ins' rounds only

        return json.dumps(
            {"role": self.role, "rank": self.rank, "local_world_size": self.local_world_size}
        ).encode()

    @staticmethod
    def deserialize(data: bytes) -> _RoleInstanceInfo:
        """Return what ``serialize`` was called on.

        Raises:
            ValueError: The data is something else.
        """
        import json

        try:
            fields = json.loads(data)
            return _RoleInstanceInfo(
                str(fields["role"]), int(fields["rank"]), int(fields["local_world_size"])
            )
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(f"not the role information of an agent: {data[:80]!r}") from error

    @staticmethod
    def compare(obj1: _RoleInstanceInfo, obj2: _RoleInstanceInfo) -> int:
        """Order by role, then by rank, as ``functools.cmp_to_key`` asks: negative, 0, positive."""
        if obj1.role != obj2.role:
            return 1 if obj1.role > obj2.role else -1
        return obj1.rank - obj2.rank

    @staticmethod
    def find_role_boundaries(
        roles_infos: Sequence[_RoleInstanceInfo], role: str
    ) -> tuple[int, int]:
        """Return a role's first and last index in an ordered list; -1, -1 if it has none."""
        places = [index for index, info in enumerate(roles_infos) if info.role == role]
        return (places[0], places[-1]) if places else (-1, -1)


def assign_spans(infos: Iterable[_RoleInstanceInfo]) -> list[RankSpan]:
    """Give every node its ranks, one after the other in group rank order.

    Args:
        infos: What each node brings, in group rank order.
    """
    nodes = list(infos)
    role_sizes: Counter[str] = Counter()
    for node in nodes:
        role_sizes[node.role] += node.local_world_size
    world_size = role_sizes.total()
    next_rank = 0
    next_role_rank: Counter[str] = Counter()
    spans = []
    for node in nodes:
        spans.append(
            RankSpan(next_rank, world_size, next_role_rank[node.role], role_sizes[node.role])
        )
        next_rank += node.local_world_size
        next_role_rank[node.role] += node.local_world_size
    return spans


def agree_on_span(store: Any, mine: _RoleInstanceInfo, group_world_size: int) -> RankSpan:
    """Return this node's ranks, after its agent and the others have told what they bring.

    Each agent writes what it brings; that of group rank 0 reads all and writes each one's span.

    Args:
        store: Anything with torch ``Store``'s ``set``, blocking ``get``, ``multi_get`` and
            ``multi_set``.
    """
    import json  # plug-ins' rounds only

    store.set(_ROLE_INFO_KEY.format(mine.rank), mine.serialize())
    if mine.rank == 0:
        everyone = range(group_world_size)
        values = store.multi_get([_ROLE_INFO_KEY.format(rank) for rank in everyone])
        spans = assign_spans(_RoleInstanceInfo.deserialize(data) for data in values)
        store.multi_set(
            [_ASSIGNED_RANKS_KEY.format(rank) for rank in everyone],
            [json.dumps(list(span)) for span in spans],
        )
    return RankSpan(*json.loads(store.get(_ASSIGNED_RANKS_KEY.format(mine.rank))))


def identical_span(group_rank: int, group_world_size: int, local_world_size: int) -> RankSpan:
    """Return a node's ranks where every node brings the same workers: no store is needed."""
    first = group_rank * local_world_size
    total = group_world_size * local_world_size
    return RankSpan(first, total, first, total)
