"""The round protocol: what nodes write, and every decision that follows from it.

A run is a sequence of rounds, numbered from 0. A round is a set of keys of its own below
``run/<id>/round/<number>``. What stands in a round is never rewritten, save heartbeats, and that a
node may take its own record back before the round is sealed, and no node reads keys of a round
that it isn't in, save those of the one before.

    seats        a counter: each node adds 1, and the value before is its seat
    node/<seat>  the record of the node on that seat: who it is and what it brings (``Node``)
    roster       who takes part, in rank order; written once (``Roster``)
    place/<seat> what became of that seat; follows from the roster alone (``Place``)
    verdict      why the round ended; written once (``Verdict``)
    success/<rank>  mark of a member whose workers have all succeeded
    seat_beat/<seat>, beat/<rank>   signs of life, rewritten all the time (``liveness/``)

and beside the rounds ``run/<id>/round``, the run's own record, with the number of the round that
is forming. That is a hint: it may lag behind, when two nodes write it in the wrong order or one
dies before it does, but never runs ahead. A node that it sends to a round too early finds the door
shut and goes on to the next.

*Joining.* A node takes a seat, writes its record and blocks on its place: two writes and one wait,
however many nodes there are. Nobody reads all records but the one that seals.

*The door.* Sealing begins with adding ``DOOR`` to the counter of seats. The result says exactly how
many seats were taken before, and whoever adds 1 after it reads a number that is too high for a
seat: it goes on to the next round. So no node can be seated without those that seal knowing it. A
seat whose record does not follow (its node died in between, or is slow) is not taken into the
roster; the node, should it live, learns that from its place.

*The roster.* The sealer draws it from the records by a pure function, writes it with
compare-and-set, and then writes all the places. Of several that seal, the first roster stands, and
each of the others takes its place from that one. Hence anybody who has a seat may seal. The node on
seat 0 does so as soon as ``decide`` says so; it is woken by every record. The others sleep on their
places and look now and then whether the round should have been sealed by now: the one on seat k
every k times ``deputy_s``, so that a thousand who look cost the store little. A sealer that dies at
the door, before the roster or before the places is replaced by the first deputy that looks; the
deputies of a sealer that lives find nothing to do. Each also listens to the one that sits before
it; if nobody who does is left, it takes the part of the node on seat 0.

*The verdict.* A round runs until it has one. Every member blocks on it, so that all act at once.
DONE and ABORTED end the run; after any other, the members form the next round. A round without a
verdict is running, and then the next one may not be sealed. A node that comes late takes its seat
in the next round, and, if the running one has room for it and nobody has finished there, writes
its verdict: NODE_WAITING. Otherwise it waits for that verdict as a spare.

*The end.* Whoever would form round n+1 has read the verdict of round n: a member of round n as
such, and a newcomer before anything else. So the verdict that ends the run reaches all who wait,
and all who ever come. A run that is ended between two rounds gets the verdict ABORTED on the one
that is forming, which is then sealed without members: it is void. The free seats that the node on
seat 0 may be waiting for get records of nodes that left.

*Accidents.* When the door is shut and then too few nodes are there, or the last node that could
have sealed dies, the round is void too, with the verdict NODE_LOST; a newcomer to the next one sees
to that if nobody else does. The nodes go on to the next round, in which nobody is a survivor.

*Liveness.* A node that sits or takes part has a heartbeat. A member that falls silent is lost:
NODE_LOST, by whoever of the others listens to it. If it lives, it reads that verdict when it wakes,
stops its workers and comes back as a newcomer. The first node that is left on a seat counts those
who sit there and are silent as if they had left, and does not wait for silent members of the round
before; a deputy that seals in its place does not know, since a lost node that gets into a roster is
missed there soon enough. Those who wait for the verdict of a running round listen to one of its
members, and to all once that one is silent: if no member is left to say so, they say that all are
lost.

*Restarts.* The roster carries the number of restarts that the job has spent. It is that of the
round before, plus one if that ended by WORKER_FAILED and lost no node. So the budget is the job's,
and changes of membership are free.

*Moving.* Where a store that is lost has a successor, every member keeps the roster of its round and
writes it there, with a verdict of its own. So the run goes on in the new store as if it were the
old one (``node/migrate.py``).

*Limits.* All nodes of a run are told the same fewest and most nodes: what the first of them was
told. A node that was told otherwise leaves as soon as it sees that.

*Order.* Survivors keep the order that they had. Newcomers follow: first those that wish for a rank,
by that, then by host name (node2 before node10) and seat. If more are seated than the round may
take, survivors go before newcomers and early seats before late ones; the rest are spares, and take
a seat in the next round. Where nodes have fixed ranks, these are the order, and nothing else is.

*Strangers.* Where the job has a secret, all that is written is signed (``stores/signed.py``), but
for the counters of seats. Nothing is concluded from them alone: a seat is taken by creating the
record on it, so nobody gets one that another node has, and a number that no round has counts for
none. A stranger who turns them holds nodes up, until they have looked for each other or have gone
on to the next round.

No clocks of two machines are compared: a deadline is its own node's, and a record has no date.

This module has no store and no clock. What is read comes in as values, ``now`` among them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..api.handler import Placement, RendezvousStoreInfo, VerdictKind
from .records import History, Limits, Member, Node, NotTaken, Place, Roster

DOOR = 1_000_000
"""More seats than any round has."""

_MOST_SEATS = 20_000
"""More than any job has nodes: who has turned a counter so far was no node."""


@dataclass(frozen=True, slots=True)
class Seal:
    """The round can be sealed now."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Too few nodes came in time."""


@dataclass(frozen=True, slots=True)
class Await:
    """The round can't be sealed yet.

    Args:
        seats: How many further nodes could change that.
        until: When the passing of time alone changes it, on the clock of ``now``.
    """

    seats: int
    until: float


Decision = Seal | GiveUp | Await


def seats_taken(counted: int, known: int = 0) -> int:
    """Return how many seats of a round are taken, the last of them perhaps in vain.

    Args:
        counted: What the counter of seats says.
        known: How many must be taken at least, whatever that says.
    """
    taken = counted % DOOR
    return max(known, taken if taken <= _MOST_SEATS else 0)


def limits_of_run(seated: Mapping[int, Node], history: History | None) -> Limits | None:
    """Return what all nodes must have been told: what the run was, else what the first seat was.

    Args:
        seated: Records by seat.
        history: The round before, if there was one.
    """
    if history is not None and history.roster.members:
        return history.roster.limits
    staying = [seat for seat, node in seated.items() if not node.is_withdrawn]
    return seated[min(staying)].limits if staying else None


def present(seated: Mapping[int, Node], limits: Limits | None) -> dict[int, Node]:
    """Return the nodes that a roster can take: still there, and told the right limits.

    Of two nodes with one fixed rank, the one that came last: the other has died.
    """
    nodes = {
        seat: node
        for seat, node in seated.items()
        if not node.is_withdrawn and node.limits == limits
    }
    latest = {node.wish: seat for seat, node in sorted(nodes.items()) if node.is_fixed}
    return {
        seat: node for seat, node in nodes.items() if not node.is_fixed or latest[node.wish] == seat
    }


def missing_ranks(seated: Mapping[int, Node], limits: Limits) -> list[int]:
    """Return the fixed ranks of which no node is there; none where ranks are agreed on.

    Args:
        seated: The records by seat.
        limits: What the nodes were told.
    """
    nodes = present(seated, limits).values()
    if not any(node.is_fixed for node in nodes):
        return []
    there = {node.wish for node in nodes}
    return [rank for rank in range(limits.max_nodes) if rank not in there]


def decide(
    seated: Mapping[int, Node],
    history: History | None,
    *,
    mine: Limits,
    now: float,
    last_joined_at: float,
    deadline: float,
    last_call_s: float,
    survivor_s: float = 0.0,
) -> Decision:
    """Decide whether a forming round can be sealed.

    At once when nobody else is worth waiting for: in the first round, with the most nodes; in a
    later one, with enough nodes and every survivor among them, as a spare must not take the place
    of a survivor that is a moment slower. Otherwise when there are enough and nobody has come
    during the last call, which is longer while a survivor is known to be on its way: its workers
    may be saving a checkpoint, and a round without it would be torn down as soon as it comes.

    Args:
        seated: The records that are there, by seat.
        history: The round before, if there was one.
        mine: What the deciding node was told, while nobody is seated.
        now: The time.
        last_joined_at: When the last of the records came.
        deadline: When too few nodes have had enough time.
        last_call_s: Seconds for which each newcomer keeps the round open for another one.
        survivor_s: The same for a survivor, if that is longer.
    """
    limits = limits_of_run(seated, history) or mine
    nodes = present(seated, limits)
    if len(nodes) >= limits.min_nodes:
        # One that came back and left again is not on its way, nor is one whose rank is taken.
        has_all_ranks = len(nodes) >= limits.max_nodes and all(n.is_fixed for n in nodes.values())
        if has_all_ranks:
            return Seal()
        is_awaited = history is not None and bool(missing_survivors(seated, history))
        last_call_ends = last_joined_at + max(last_call_s, survivor_s if is_awaited else 0.0)
        if now >= last_call_ends or (not is_awaited and _are_complete(nodes, limits, history)):
            return Seal()
        return Await(1, last_call_ends)
    if now >= deadline:
        return GiveUp()
    return Await(limits.min_nodes - len(nodes), deadline)


def draw_roster(
    round_number: int,
    sealed_by: int,
    seated: Mapping[int, Node],
    history: History | None,
    *,
    mine: Limits,
) -> Roster:
    """Return the roster of a round whose door is shut: a void one if too few are there by now.

    Args:
        round_number: The round.
        sealed_by: Seat of the node that asks.
        seated: The records by seat.
        history: The round before, if there was one.
        mine: What that node was told.
    """
    limits = limits_of_run(seated, history) or mine
    members = [Member(seat, node) for seat, node in present(seated, limits).items()]
    if len(members) < limits.min_nodes:
        return void_roster(round_number, sealed_by, history, mine=limits)
    members.sort(key=lambda member: _precedence(member, history))
    taken = sorted(members[: limits.max_nodes], key=_rank_order)
    # A store that was begun anew knows less of the job than its nodes may.
    restarts = max([restarts_after(history), *(member.node.restarts for member in taken)])
    return Roster(round_number, sealed_by, restarts, limits, tuple(taken))


def void_roster(
    round_number: int, sealed_by: int, history: History | None, *, mine: Limits
) -> Roster:
    """Return the roster of a round that nobody takes part in.

    Args:
        round_number: The round.
        sealed_by: Seat of the node that asks, or -1.
        history: The round before, if there was one.
        mine: What that node was told.
    """
    return Roster(round_number, sealed_by, restarts_after(history), mine, ())


def restarts_after(history: History | None) -> int:
    """Return how many restarts the job has spent after a round.

    A worker's failure in a round that lost a node, too, is put down to that: peers of a node that
    dies fail long before it is missed.
    """
    if history is None:
        return 0
    verdict = history.verdict
    failed = verdict.kind is VerdictKind.WORKER_FAILED and not verdict.lost
    return history.roster.restart_count + failed


def place_of(roster: Roster, seat: int) -> Place:
    """Return what became of a seat."""
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
        )
        for group_rank, (member, (first_rank, first_role_rank)) in enumerate(
            zip(roster.members, firsts, strict=True)
        )
    }


def missing_survivors(seated: Mapping[int, Node], history: History) -> set[int]:
    """Return the group ranks of the round before that should be back, and are not.

    Args:
        seated: The records by seat.
        history: The round before.
    """
    return absent_members(seated, history) & _expected_ranks(history)


def absent_members(seated: Mapping[int, Node], history: History) -> set[int]:
    """Return the group ranks of the round before that are not back, lost ones included.

    Args:
        seated: The records by seat.
        history: The round before.
    """
    back = {
        node.origin.group_rank
        for node in seated.values()
        if node.origin is not None and node.origin.round == history.roster.round
    }
    return set(range(len(history.roster.members))) - back


def has_room(roster: Roster) -> bool:
    """Return whether a running round could take a newcomer, unless a member has finished."""
    return 0 < len(roster.members) < roster.limits.max_nodes


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return what to sort names by so that node2 comes before node10."""
    # A number sorts before a word, by its value; equal values (2 and 02) by how they are written.
    return tuple(
        (0, int(part), part) if part.isascii() and part.isdigit() else (1, 0, part)
        for part in re.split(r"([0-9]+)", name)
        if part
    )


def _are_complete(nodes: Mapping[int, Node], limits: Limits, history: History | None) -> bool:
    """Return whether nobody else is worth waiting for, now that all survivors are back.

    Where they are too few by themselves, newcomers are waited for, and after one more may come: a
    last call costs less than the round that would be torn down for the next of them.
    """
    are_enough = history is not None and len(_expected_ranks(history)) >= limits.min_nodes
    return are_enough or len(nodes) >= limits.max_nodes


def _expected_ranks(history: History) -> set[int]:
    return set(range(len(history.roster.members))) - set(history.verdict.lost)


def _precedence(member: Member, history: History | None) -> tuple[bool, int]:
    """Sort those first that are taken first if there are too many."""
    origin = member.node.origin
    is_survivor = (
        origin is not None and history is not None and origin.round == history.roster.round
    )
    return not is_survivor, member.seat


def _rank_order(member: Member) -> tuple[int, float, tuple[tuple[int, int, str], ...], int]:
    """Sort survivors of the latest round first, by their ranks there, and then newcomers."""
    origin, wish = member.node.origin, member.node.wish
    if member.node.is_fixed and wish is not None:
        return 0, wish, (), member.seat
    if origin is not None:
        return -origin.round, origin.group_rank, (), member.seat
    return 1, math.inf if wish is None else wish, natural_key(member.node.host), member.seat
