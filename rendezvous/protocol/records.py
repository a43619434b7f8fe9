"""What nodes write for each other to read, as values; ``wire.py`` makes bytes of them."""

from __future__ import annotations

from dataclasses import dataclass

from ..api.handler import Placement, Verdict


@dataclass(frozen=True, slots=True)
class Limits:
    """How many nodes may form a round, and how often one may fail; the same for all of a run.

    Args:
        min_nodes: Fewest, at least 1.
        max_nodes: Most.
        max_restarts: Restarts that the job may spend.
    """

    min_nodes: int
    max_nodes: int
    max_restarts: int = 0

    def __str__(self) -> str:
        return f"{self.min_nodes}:{self.max_nodes}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a survivor comes from.

    Args:
        round: The round of which it was a member last.
        group_rank: Its rank there.
    """

    round: int
    group_rank: int


@dataclass(frozen=True, slots=True)
class Node:
    """What a node tells about itself when it takes a seat.

    Args:
        host: Name of its host, for people and for the order.
        address: Address at which the others reach it.
        port: Port there, kept free for the workers' store should this node become group rank 0.
        local_world_size: Number of workers that it will run.
        role: Name of their role.
        limits: What it was told of the run.
        origin: Where it comes from; None for a newcomer.
        is_withdrawn: Whether it has left its seat again.
        wish: Group rank that it would like to have; None: any.
        restarts: Restarts that the job had spent, as far as this node knows.
        is_fixed: Whether it has that group rank, and no other; so have all nodes of its run then.
    """

    host: str
    address: str
    port: int
    local_world_size: int
    role: str
    limits: Limits
    origin: Origin | None = None
    is_withdrawn: bool = False
    wish: int | None = None
    restarts: int = 0
    is_fixed: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """A node that takes part in a sealed round.

    Args:
        seat: Where it sat while the round formed.
        node: Its record.
    """

    seat: int
    node: Node


@dataclass(frozen=True, slots=True)
class Roster:
    """A sealed round.

    Args:
        round: Its number.
        sealed_by: Seat of the node that wrote it; tells apart rosters that agree otherwise.
        restart_count: Restarts that the job has spent.
        limits: What the nodes that take part were told; a node that was told otherwise is refused.
        members: The nodes that take part, by group rank; none in a void round.
    """

    round: int
    sealed_by: int
    restart_count: int
    limits: Limits
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class History:
    """The round before, as the next one sees it: sealed and ended.

    Args:
        roster: Who took part.
        verdict: How it ended.
    """

    roster: Roster
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class NotTaken:
    """The place of a node that the round did not take: it may sit down in the next one."""


Place = Placement | NotTaken
