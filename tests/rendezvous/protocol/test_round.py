"""When a round seals and what follows it: the pure part of the protocol, on histories as data."""

import pytest
from elrun.rendezvous.api.handler import Verdict, VerdictKind
from elrun.rendezvous.protocol.records import (
    History,
    Limits,
)
from elrun.rendezvous.protocol.roster import (
    places_of,
    restarts_after,
    void_roster,
)
from elrun.rendezvous.protocol.round import (
    DOOR,
    Await,
    GiveUp,
    Seal,
    decide,
    has_room,
    limits_of_run,
    seats_taken,
)
from history_kit import A1, B1, C1, A, B, C, D, decision, draw, history, node, roster

SEALING = {
    "nobody but the sealer": ([A], None, 0, Await(1, 600)),
    "too few at the deadline": ([A], None, 600, GiveUp()),
    "enough: a last call": ([A, B], None, 1, Await(1, 5)),
    "enough, past the deadline": ([A, B], None, 600, Seal()),
    "the last call is over": ([A, B], None, 5, Seal()),
    "the most": ([A, B, C], None, 0, Seal()),
    "more than the most": ([A, B, C, D], None, 0, Seal()),
    "one has left again": ([A, B._replace(is_withdrawn=True)], None, 0, Await(1, 600)),
    "one was told otherwise": ([A, node(limits=(3, 3))], None, 0, Await(1, 600)),
    "all survivors are back": ([A1, B1], history(A, B), 0, Seal()),
    "survivors in another order": ([B1, A1], history(A, B), 0, Seal()),
    "survivors and a newcomer": ([C, B1, A1], history(A, B), 0, Seal()),
    "a survivor is missing": ([A1, B1], history(A, B, C), 1, Await(1, 40)),
    "a survivor came back, and left again": (
        [A1, B1._replace(is_withdrawn=True), C1],
        history(A, B, C),
        0,
        Seal(),
    ),
    "a spare does not stand in for a slow survivor": (
        [D, A1, B1],
        history(A, B, C),
        6,
        Await(1, 40),
    ),
    "a spare stands in at last": ([D, A1, B1], history(A, B, C), 40, Seal()),
    "a survivor is known to be lost": (
        [A1, B1],
        history(A, B, C, kind=VerdictKind.NODE_LOST, lost=(2,)),
        0,
        Seal(),
    ),
    "survivors are too few": (
        [A1],
        history(A, B, kind=VerdictKind.NODE_LOST, lost=(1,)),
        0,
        Await(1, 600),
    ),
    "all were lost": (
        [C, D],
        history(A, B, kind=VerdictKind.NODE_LOST, lost=(0, 1)),
        1,
        Await(1, 5),
    ),
    "a survivor of an older round is none of this one": (
        [A1, B1],
        History(roster(A, B)._replace(round=1), Verdict(VerdictKind.NODE_WAITING)),
        1,
        Await(1, 40),
    ),
    "the round before was void": (
        [A1, B1],
        History(void_roster(0, -1, None, mine=Limits(2, 3)), Verdict(VerdictKind.NODE_LOST)),
        1,
        Await(1, 5),
    ),
}


@pytest.mark.parametrize("case", SEALING)
def test_a_round_seals_when_nobody_else_is_worth_waiting_for(case):
    """Complete: at once. Enough: after the last call. Too few: not before the deadline gives up."""
    seated, past, now, expected = SEALING[case]

    assert expected == decision(seated, past, now=now)


def test_without_a_last_call_enough_nodes_are_enough():
    """``last_call_timeout=0``: the minimum seals at once."""
    waits = {"now": 0.0, "last_joined_at": 0.0, "deadline": 600, "last_call_s": 0.0}

    assert Seal() == decide(
        dict(enumerate([A, B])), None, mine=Limits(2, 3), survivor_s=40, **waits
    )


def test_each_newcomer_extends_the_last_call():
    """The last call counts from the latest join, not from the first."""
    assert Await(1, 9) == decision([A, B], now=5, last_joined_at=4)


def test_the_first_seat_says_what_the_limits_are():
    """In the first round all must have been told what the first seat was, unless that one left."""
    odd = node("odd", limits=(1, 9))

    assert (
        Limits(1, 9),
        Limits(2, 3),
        None,
    ) == (
        limits_of_run({0: odd, 1: A}, None),
        limits_of_run({0: odd._replace(is_withdrawn=True), 1: A}, None),
        limits_of_run({}, None),
    )


def test_a_run_keeps_its_limits():
    """A newcomer on the first seat of a later round can't change what the run was told."""
    assert Limits(2, 3) == limits_of_run({0: node("odd", limits=(1, 9)), 1: A1}, history(A, B))


def test_a_round_of_too_few_is_void():
    """Nodes that leave while the door is being shut can't be replaced any more."""
    assert () == draw(0, 0, {0: A, 1: B._replace(is_withdrawn=True)}, None).members


@pytest.mark.parametrize(
    ("kind", "spent"),
    [
        (VerdictKind.WORKER_FAILED, 3),
        (VerdictKind.NODE_LOST, 2),
        (VerdictKind.NODE_WAITING, 2),
    ],
)
def test_only_a_failed_worker_costs_a_restart(kind, spent):
    """Changes of membership are free."""
    assert spent == restarts_after(history(A, B, kind=kind, restarts=2))


def test_a_void_round_keeps_the_count_of_restarts():
    """What the job has spent outlives a round in which nobody took part."""
    void = void_roster(1, -1, history(A, B, restarts=1), mine=Limits(2, 3))

    assert (2, {}) == (void.restart_count, places_of(void))


def test_everybody_meets_at_the_first_node():
    """The workers' store is where the node of group rank 0 keeps a port free."""
    drawn = draw(0, 0, {0: B, 1: A}, None)

    assert {("address of a", 29500)} == {
        (place.workers_store.master_addr, place.workers_store.master_port)
        for place in places_of(drawn).values()
    }


def test_a_running_round_has_room_below_its_maximum():
    """A newcomer must not restart a job that is full."""
    assert [True, False, False] == [
        has_room(roster(A, B)),
        has_room(roster(A, B, C)),
        has_room(void_roster(0, 0, None, mine=Limits(2, 3))),
    ]


COUNTED = {
    "none": (0, 0, 0),
    "some": (3, 0, 3),
    "some, and the door is shut": (DOOR + 3, 0, 3),
    "some, and two have shut the door": (2 * DOOR + 3, 0, 3),
    "fewer than are known": (1, 4, 4),
    "less than none": (-3, 2, 2),
    "as many as a job may have": (20_000, 2, 20_000),
    "more than any job has": (20_001, 2, 2),
    "more than any job has, and none is known": (20_001, 0, 0),
}


@pytest.mark.parametrize(("counted", "known", "taken"), COUNTED.values(), ids=COUNTED)
def test_a_counter_of_seats_is_believed_within_reason(counted, known, taken):
    """A stranger may have turned it."""
    assert taken == seats_taken(counted, known)


def test_without_a_word_no_seat_is_known():
    """The counter alone decides."""
    assert [0, 1] == [seats_taken(0), seats_taken(1)]
