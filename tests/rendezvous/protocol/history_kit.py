"""Histories of rounds, written down as data."""

from elrun.rendezvous.api.handler import Verdict, VerdictKind
from elrun.rendezvous.protocol.records import (
    History,
    Limits,
    Member,
    Node,
    Origin,
    Roster,
)
from elrun.rendezvous.protocol.roster import (
    draw_roster,
)
from elrun.rendezvous.protocol.round import (
    decide,
)


def node(host="h", *, limits=(2, 3), workers=1, role="default", origin=None, withdrawn=False):
    return Node(
        host,
        f"address of {host}",
        29500,
        workers,
        role,
        Limits(*limits),
        Origin(*origin) if origin else None,
        withdrawn,
    )


def roster(*nodes, number=0, restarts=0):
    members = tuple(Member(seat, each) for seat, each in enumerate(nodes))
    return Roster(number, 0, restarts, nodes[0].limits, members)


def history(*nodes, kind=VerdictKind.WORKER_FAILED, lost=(), restarts=0):
    return History(roster(*nodes, restarts=restarts), Verdict(kind, lost=lost))


def decision(seated, past=None, *, now=0.0, last_joined_at=0.0):
    seated = dict(enumerate(seated))
    return decide(
        seated,
        past,
        mine=Limits(2, 3),
        now=now,
        last_joined_at=last_joined_at,
        deadline=600,
        last_call_s=5,
        survivor_s=40,
    )


A, B, C, D = node("a"), node("b"), node("c"), node("d")
A1, B1, C1 = (each._replace(origin=Origin(0, rank)) for rank, each in enumerate([A, B, C]))


def draw(number, sealed_by, seated, past):
    return draw_roster(number, sealed_by, seated, past, mine=Limits(2, 3))
