"""The roster of a round: which nodes it takes, in which order, and what follows from that."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import groupby

from ..api.handler import Placement, VerdictKind
from ..api.parameters import RendezvousStoreInfo
from .keys import FIRST_BEAT, RoundKeys, RunKeys
from .records import History, Limits, Member, Node, NotTaken, Place, Roster
from .round import limits_of_run, present
from .wire import write_forming, write_node, write_place


def draw_roster(
    round_number: int,
    sealed_by: int,
    seated: Mapping[int, Node],
    history: History | None,
    *,
    mine: Limits,
) -> Roster:
    """Return the roster of a closed round; a void roster if too few nodes are left.

    Args:
        mine: The limits of the sealer, for a round without any node.
    """
    limits = limits_of_run(seated, history) or mine
    members = [Member(seat, node) for seat, node in present(seated, limits).items()]
    if len(members) < limits.min_nodes:
        return void_roster(round_number, sealed_by, history, mine=limits)
    members.sort(key=lambda member: _precedence(member, history))
    taken = sorted(members[: limits.max_nodes], key=_rank_order)
    # After a move to a new store, the nodes may know of more restarts than the store.
    restarts = max([restarts_after(history, seated), *(member.node.restarts for member in taken)])
    return Roster(round_number, sealed_by, restarts, limits, tuple(taken))


def void_roster(
    round_number: int, sealed_by: int, history: History | None, *, mine: Limits
) -> Roster:
    """Return the roster of a round without members.

    Args:
        sealed_by: The seat of the sealer; -1 for a node without a seat.
    """
    return Roster(round_number, sealed_by, restarts_after(history), mine, ())


def restarts_after(history: History | None, seated: Mapping[int, Node] | None = None) -> int:
    """Return how many restarts the job has spent, once a round has ended.

    The failure of a worker costs no restart if the round has also lost a node: the workers of the
    other nodes fail because of the lost node, seconds before its silence is noticed.

    Args:
        seated: The records of the round that follows, by seat.
    """
    if history is None:
        return 0
    verdict = history.verdict
    has_lost = bool(verdict.lost) or _is_member_replaced(history, seated or {})
    failed = verdict.kind is VerdictKind.WORKER_FAILED and not has_lost
    return history.roster.restart_count + failed


def _is_member_replaced(history: History, seated: Mapping[int, Node]) -> bool:
    """Return whether a newcomer has a member's fixed rank: it comes sooner than its silence."""
    return any(
        node.is_fixed and node.origin is None and node.wish in range(len(history.roster.members))
        for node in seated.values()
        if not node.is_withdrawn
    )


def place_of(roster: Roster, seat: int) -> Place:
    """Return the place that a roster gives to a seat."""
    return places_of(roster).get(seat, NotTaken())


def places_of(roster: Roster) -> dict[int, Placement]:
    """Return the placements of all members by seat."""
    if not roster.members:
        return {}
    first = roster.members[0].node
    world_size = sum(member.node.local_world_size for member in roster.members)
    role_world_sizes: dict[str, int] = {}
    firsts = []
    rank = 0
    for member in roster.members:
        node = member.node
        role_rank = role_world_sizes.get(node.role, 0)
        firsts.append((rank, role_rank))
        rank += node.local_world_size
        role_world_sizes[node.role] = role_rank + node.local_world_size
    return {
        member.seat: Placement(
            round=roster.round,
            group_rank=group_rank,
            group_world_size=len(roster.members),
            first_rank=first_rank,
            world_size=world_size,
            first_role_rank=first_role_rank,
            role_world_size=role_world_sizes[member.node.role],
            restart_count=roster.restart_count,
            workers_store=RendezvousStoreInfo(first.address, first.port),
            notice=roster.notice,
        )
        for group_rank, (member, (first_rank, first_role_rank)) in enumerate(
            zip(roster.members, firsts, strict=True)
        )
    }


def places_to_write(run: RunKeys, roster: Roster, taken: int) -> dict[str, bytes]:
    """Return the values that follow from a roster: places, first beats, and the run's record."""
    keys = run.round(roster.round)
    places = places_of(roster)
    values = {keys.place(n): write_place(places.get(n, NotTaken())) for n in range(taken)}
    beats = {keys.beat(rank): FIRST_BEAT for rank in range(len(places))}
    return {**values, **beats, run.record: write_forming(roster.round + 1)}


def unoccupied(keys: RoundKeys, numbers: Iterable[int], node: Node) -> dict[str, bytes]:
    """Return withdrawn records for seats without a node."""
    record = write_node(node._replace(is_withdrawn=True))
    return {keys.node(number): record for number in numbers}


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return the sort key of names by which node2 comes before node10."""
    # A number sorts before a word, by its value; equal values (2 and 02) by how they are written.
    parts = (
        (is_number, "".join(part)) for is_number, part in groupby(name, "0123456789".__contains__)
    )
    return tuple((0, int(part), part) if is_number else (1, 0, part) for is_number, part in parts)


def _precedence(member: Member, history: History | None) -> tuple[bool, int]:
    """Return the sort key by which nodes are taken if there are too many."""
    origin = member.node.origin
    is_survivor = (
        origin is not None and history is not None and origin.round == history.roster.round
    )
    return not is_survivor, member.seat


def _rank_order(member: Member) -> tuple[int, float, tuple[tuple[int, int, str], ...], int]:
    """Return the sort key of ranks: survivors of the latest round first, then newcomers."""
    origin, wish = member.node.origin, member.node.wish
    if member.node.is_fixed and wish is not None:
        return 0, wish, (), member.seat
    if origin is not None:
        return -origin.round, origin.group_rank, (), member.seat
    return 1, math.inf if wish is None else wish, natural_key(member.node.host), member.seat
