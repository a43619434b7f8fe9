"""The round protocol: the keys that nodes write, and the decisions that follow from them.

A run is a sequence of rounds, numbered from 0. A round has keys of its own below
``run/<id>/round/<number>``:

    seats        a counter: each node adds 1; the value before is the number of its seat
    node/<seat>  the record of the node on that seat: its host and its workers (``Node``)
    roster       the members in rank order; written once (``Roster``)
    place/<seat> the rank that the roster gives to that seat, or none (``Place``)
    verdict      why the round ended; written once (``Verdict``)
    cause        the root cause that all nodes report after a failure; written once, by agents
    success/<rank>  the mark of a member whose workers have all succeeded
    seat_beat/<seat>, beat/<rank>   signs of life (``liveness/``)

Apart from the counter, only two kinds of keys change once they are written: a sign of life changes
all the time, and a node may withdraw its own record before the round is sealed. To join a round, a
node reads the keys of that round and of the round before, and of no other.

``run/<id>/round``, the run's own record, has the number of the round that forms. The record is a
hint: two nodes may write it in the wrong order, and a node may die before it writes it, so it may
lag behind; it never runs ahead. A node that begins with too early a round finds the round closed
and goes on to the next.

*Joining.* A node takes a seat, writes its record, and blocks until its place is written: two writes
and one wait, however many nodes there are. Only the node that seals the round reads all records.

*Closing.* To seal a round, a node first adds ``DOOR`` to the counter of seats. The result says how
many seats were taken before. A node that adds 1 later gets a number that is too high for a seat,
and goes on to the next round. So the sealer knows every seat. If a seat has no record (its node
died before it wrote one, or is slow), the roster is made without that seat, and the node, if it
lives, finds that out from its place.

*The roster.* A pure function makes the roster from the records. The sealer writes the roster with
compare-and-set, and then writes all places. If several nodes seal at once, the first roster stands,
and the other sealers take their places from that one. Hence every node that has a seat may seal.
The node on seat 0 is the sealer: it waits for the records that are missing, and seals as soon as
``decide`` says so.
The other nodes are deputies: the node on seat k checks every k * ``deputy_s`` whether the round
should have been sealed by now. So a thousand deputies cost the store little. If the sealer dies
after it closed the round, the first deputy that checks seals in its place, or writes the places
that are missing. Each deputy also watches the seat before its own; a deputy whose earlier seats are
all silent becomes the sealer.

*The verdict.* A round runs until it has a verdict. Every member blocks on the verdict, so all
members act at once. DONE and ABORTED end the run; after any other verdict the members form the next
round. While a round has no verdict, the next round may not be sealed. A node that comes late takes
a seat in the next round. If the running round has room for it and no member has finished, the late
node writes the verdict NODE_WAITING. Else it waits for the verdict as a spare.

*The end of a run.* A node forms round n+1 only after it has read the verdict of round n: the
members of round n read it as members, and a newcomer reads it first of all. So the verdict that
ends the run reaches every node that waits, and every node that comes later. To end a run between
two rounds, a node writes ABORTED as the verdict of the round that forms, and seals that round
without members. It also writes a withdrawn record for each free seat, so that the sealer, which
waits for these records, wakes up.

*Void rounds.* A round without members is void. This happens if too few nodes are left once the
round is closed, or if every node that could seal the round dies. Its verdict is NODE_LOST; if no
other node writes that, a newcomer to the next round does. The nodes go on to the next round, in
which no node is a survivor.

*Liveness.* Each node that has a seat, and each member, has a heartbeat (``liveness/heartbeat.py``
says which node watches which). If a member falls silent, the member that watches it writes the
verdict NODE_LOST. A lost node that still lives reads that verdict when it wakes, stops its workers,
and comes back as a newcomer. The sealer counts silent nodes on seats as withdrawn; a deputy that
seals in its place knows of no silence, so a lost node may get into the roster, and is found again
in the new round. A store that sees connections end need not wait for silence: each node leaves a
will with it (``stores/store.py``), which is that verdict for a member, and a last beat for a seat.

*Restarts.* The roster has the number of restarts that the job has spent: the number of the round
before, plus one if that round ended by WORKER_FAILED without a lost node. So the budget is the
job's, and a change of membership costs nothing.

*Moving.* When a store that has a successor is lost, the members copy the roster of their round to
the next store, and the run goes on there (``node/migrate.py``).

*Limits.* All nodes of a run have the same minimum and maximum of nodes and the same number of
restarts: those of the first node. A node with other limits leaves as soon as it reads the first
node's.

*Refusals.* A node that can't take part, such as one without the script, says so in a record that
is withdrawn from the beginning (``node/decline.py``). The first round is given up at once if that
node hosts the only store, and after a last call if the others are fewer than the minimum, or if
nodes with other limits leave the others too few. The sealer then ends the run.

*Order.* Survivors keep their order. Newcomers follow: first those that ask for a rank, by that
rank; then the others by host name (node2 before node10) and seat. If a round has more nodes than
its maximum, survivors are taken before newcomers, and early seats before late ones; the nodes that
are not taken are spares and take a seat in the next round. Where nodes have fixed ranks, the order
is that of the ranks.

*Foreign processes.* Where the job has a secret, every value is signed (``stores/signed.py``) except
the counters of seats. So no decision trusts a counter alone: a node has a seat only once it has
created the seat's record, and a number that no round can have counts as 0.

Clocks of two machines are never compared: each node measures its own deadlines, and no record has a
date.

This module uses no store and no clock. Whatever was read is an argument, and so is ``now``.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..named_tuple import Bare, NamedTuple
from .records import History, Limits, Node, Roster

DOOR = 1_000_000
"""More seats than any round has; added to the counter of seats to close a round."""

_MOST_SEATS = 20_000
"""More seats than any job has nodes: a higher number comes from a foreign process."""


class Seal(Bare):
    """The round can be sealed now."""


class GiveUp(Bare):
    """Too few nodes have come, and the time is over."""


class Await(NamedTuple):
    """The round can't be sealed yet.

    Args:
        seats: The number of further nodes that could change that.
        until: When time alone changes it, on the clock of ``now``.
    """

    seats: int
    until: float


Decision = Seal | GiveUp | Await


def seats_taken(counted: int, known: int = 0) -> int:
    """Return how many seats of a round are taken; some may have no record yet.

    Args:
        known: The number of seats that are known to be taken, whatever the counter says.
    """
    taken = counted % DOOR
    return max(known, taken if taken <= _MOST_SEATS else 0)


def limits_of_run(seated: Mapping[int, Node], history: History | None) -> Limits | None:
    """Return the limits of the run: those of the round before, else those of the first seat."""
    if history is not None and history.roster.members:
        return history.roster.limits
    staying = [seat for seat, node in seated.items() if not node.is_withdrawn]
    return seated[min(staying)].limits if staying else None


def present(seated: Mapping[int, Node], limits: Limits | None) -> dict[int, Node]:
    """Return the nodes that a roster can take: not withdrawn, and with the run's limits.

    Of two nodes with the same fixed rank, the later one is taken: the earlier one has died.
    """
    nodes = {
        seat: node
        for seat, node in seated.items()
        if not node.is_withdrawn and (limits is None or node.limits.suit(limits))
    }
    latest = {node.wish: seat for seat, node in sorted(nodes.items()) if node.is_fixed}
    if not latest:
        return nodes
    return {
        seat: node for seat, node in nodes.items() if not node.is_fixed or latest[node.wish] == seat
    }


def missing_ranks(seated: Mapping[int, Node], limits: Limits) -> list[int]:
    """Return the fixed ranks that no seated node has; none where ranks are not fixed."""
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
    survivor_s: float,
) -> Decision:
    """Decide whether a forming round can be sealed.

    It is sealed at once if it is complete. The first round is complete with the maximum of nodes. A
    later round is complete with every survivor and at least the minimum of nodes; before that, a
    spare might take the place of a survivor that is a moment slower.

    Else it is sealed at the end of the last call, if at least the minimum of nodes is there. The
    last call begins anew with each node that comes. It is longer while a survivor is missing: the
    survivor's workers may be saving a checkpoint, and a round without the survivor would end as
    soon as the survivor comes.

    Args:
        mine: The limits of the deciding node, for a round without any node.
        deadline: When to give up if too few nodes have come.
        survivor_s: Length of the last call while a survivor is missing, if that is longer.
    """
    limits = limits_of_run(seated, history) or mine
    nodes = present(seated, limits)
    is_host_refused = _is_host_refused(seated)
    if are_too_many_refused(seated, history, limits):
        patience_s = 0.0 if is_host_refused else last_call_s
        deadline = min(deadline, last_joined_at + patience_s)
    if len(nodes) >= limits.min_nodes and not is_host_refused:
        # A survivor that came back and left again is not missing; nor is one whose rank is taken.
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
    return Await(max(1, limits.min_nodes - len(nodes)), deadline)


def are_too_many_refused(seated: Mapping[int, Node], history: History | None, mine: Limits) -> bool:
    """Return whether no round can form since nodes of the job can't take part.

    Such nodes have said so, or have other limits. Those with other limits may belong to another
    job: they count only once as many nodes have come as any of these limits allow. A later round
    may get nodes that nobody knows of yet: it is given up by its deadline alone.
    """
    if history is not None:
        return False
    refused = sum(bool(node.refusal) for node in seated.values())
    misfits = misfits_among(seated, mine)
    if not refused and not misfits:
        return False
    most = min(limits.max_nodes for limits in [mine, *(node.limits for node in misfits)])
    if refused + len(misfits) + len(present(seated, mine)) >= most:
        refused += len(misfits)
    is_short = bool(refused) and mine.max_nodes - refused < mine.min_nodes
    return is_short or _is_host_refused(seated)


def misfits_among(seated: Mapping[int, Node], limits: Limits) -> list[Node]:
    """Return the nodes that have other limits, also those that have left.

    Args:
        seated: The records by seat; the record of a node that has left is still there.
    """
    nodes = seated.values()
    return [node for node in nodes if not (node.limits.suit(limits) or node.refusal)]


def _is_host_refused(seated: Mapping[int, Node]) -> bool:
    """Return whether the node that hosts the only store leaves, and the store with it."""
    return any(node.refusal and node.is_host for node in seated.values())


def missing_survivors(seated: Mapping[int, Node], history: History) -> set[int]:
    """Return the group ranks of the round before that live and have not come back."""
    return absent_members(seated, history) & _expected_ranks(history)


def absent_members(seated: Mapping[int, Node], history: History) -> set[int]:
    """Return the group ranks of the round before that have not come back, lost ones included."""
    back = {
        node.origin.group_rank
        for node in seated.values()
        if node.origin is not None and node.origin.round == history.roster.round
    }
    return set(range(len(history.roster.members))) - back


def has_room(roster: Roster) -> bool:
    """Return whether a running round has fewer members than its maximum, and is not void."""
    return 0 < len(roster.members) < roster.limits.max_nodes


def _are_complete(nodes: Mapping[int, Node], limits: Limits, history: History | None) -> bool:
    """Return whether the round need not wait for another node, now that all survivors are back.

    If the survivors alone are fewer than the minimum, the round needs newcomers, and where one
    comes, more may follow: a last call costs less than a round that the next newcomer ends.
    """
    are_enough = history is not None and len(_expected_ranks(history)) >= limits.min_nodes
    return are_enough or len(nodes) >= limits.max_nodes


def _expected_ranks(history: History) -> set[int]:
    return set(range(len(history.roster.members))) - set(history.verdict.lost)
