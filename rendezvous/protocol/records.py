"""The records that nodes write for each other, as values; ``wire.py`` turns them into bytes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..api.handler import Placement, Verdict
from ..named_tuple import NamedTuple


class Limits(NamedTuple):
    """How many nodes may form a round, and how often the job may restart; the same on all nodes.

    Args:
        min_nodes: Fewest nodes of a round, at least 1.
        max_nodes: Most nodes of a round.
        max_restarts: Restarts that the job may spend.
        beat_ms: Milliseconds between two beats of the node; 0: unknown. This and the next may
            differ from node to node.
        patience_ms: Milliseconds for which the node waits for another's beat; 0: unknown.
    """

    min_nodes: int
    max_nodes: int
    max_restarts: int = 0
    beat_ms: int = 0
    patience_ms: int = 0

    def suit(self, others: Limits) -> bool:
        """Return whether a node with these limits can be in a round of nodes with others."""
        return self[:3] == others[:3] and self.outlast(others) and others.outlast(self)

    def outlast(self, others: Limits) -> bool:
        """Return whether a node waits long enough for the beats of a node with other limits."""
        return not self.patience_ms or self.patience_ms >= 2 * others.beat_ms

    def __str__(self) -> str:
        if self.min_nodes == self.max_nodes:
            return f"{self.min_nodes}"
        return f"{self.min_nodes}:{self.max_nodes}"


class Origin(NamedTuple):
    """The last round of a node that has been a member."""

    round: int
    group_rank: int


class Node(NamedTuple):
    """The record that a node writes about itself when it takes a seat.

    Args:
        host: Host name, for people and for the order of ranks.
        address: Address at which other nodes reach this node.
        port: Port there, kept free for the workers' store if this node becomes group rank 0.
        origin: The node's last round; None for a newcomer.
        is_withdrawn: Whether the node has left its seat.
        wish: Group rank that the node asks for; None: any.
        restarts: Restarts that the job has spent, as far as this node knows.
        is_fixed: Whether ``wish`` is the node's rank in every round, as it is for all nodes of a
            static run.
        refusal: Why the node can't take part, as a sentence; it has left its seat at once. Empty
            for a node that takes part.
        is_host: Whether a node that can't take part hosts the only store of the run.
        traits: What should be the same on all nodes, by its name; a roster does not keep that.
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
    refusal: str = ""
    is_host: bool = False
    traits: Mapping[str, str] = MappingProxyType({})


class Member(NamedTuple):
    """A node that takes part in a sealed round."""

    seat: int
    node: Node


class Roster(NamedTuple):
    """A sealed round.

    Args:
        sealed_by: The seat of the sealer; so two sealers never write equal rosters.
        limits: The limits of the run; a node with other limits is refused.
        members: The members, by group rank; none in a void round.
        notice: How the members differ in what should be the same; "" if nothing differs.
    """

    round: int
    sealed_by: int
    restart_count: int
    limits: Limits
    members: tuple[Member, ...]
    notice: str = ""


class History(NamedTuple):
    """A round that has ended, as the next round needs it."""

    roster: Roster
    verdict: Verdict


class NotTaken(NamedTuple):
    """The place of a node that the round has not taken; the node may join the next round."""


Place = Placement | NotTaken
