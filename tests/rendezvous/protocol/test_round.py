"""The pure part of the round protocol, on histories written down as data."""

import random

import pytest
from elrun.rendezvous.api.handler import Verdict, VerdictKind
from elrun.rendezvous.protocol.records import (
    History,
    Limits,
    Member,
    Node,
    NotTaken,
    Origin,
    Roster,
)
from elrun.rendezvous.protocol.roster import (
    draw_roster,
    natural_key,
    place_of,
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


def draw(number, sealed_by, seated, past):
    return draw_roster(number, sealed_by, seated, past, mine=Limits(2, 3))


def hosts(drawn):
    return [member.node.host for member in drawn.members]


def test_newcomers_are_ranked_by_host_name_as_people_count():
    """node2 comes before node10, however they arrived."""
    names = ["node10", "node2", "node1", "other"]
    seated = {seat: node(name, limits=(4, 4)) for seat, name in enumerate(names)}

    assert ["node1", "node2", "node10", "other"] == hosts(draw(0, 0, seated, None))


def test_newcomers_that_wish_for_a_rank_are_ranked_by_that():
    """Gaps don't matter, equal wishes go by name, and whoever has none goes last."""
    wishes = {"a": None, "b": 7, "c": 2, "node10": 5, "node2": 5}
    seated = {
        seat: node(name, limits=(5, 5))._replace(wish=wish)
        for seat, (name, wish) in enumerate(wishes.items())
    }

    assert ["c", "node2", "node10", "b", "a"] == hosts(draw(0, 0, seated, None))


def test_survivors_that_are_too_few_leave_newcomers_a_last_call():
    """Whoever replaces one lost node may be followed by the one that replaces the next."""
    past = history(A, B, C, kind=VerdictKind.NODE_LOST, lost=(1, 2))

    assert [Await(1, 5), Seal()] == [decision([A1, D], past, now=now) for now in (0, 5)]
    assert Seal() == decision([A1, D, node("e")], past)


def fixed(each, rank):
    return each._replace(wish=rank, is_fixed=True, limits=Limits(3, 3))


def test_fixed_ranks_are_the_order():
    """One that came back has its old rank, before those who stayed, whatever the names."""
    past = history(fixed(C, 0), fixed(B, 1), fixed(A, 2), lost=(0,))
    seated = {0: fixed(B1, 1), 1: fixed(A._replace(origin=Origin(0, 2)), 2), 2: fixed(C, 0)}

    assert ["c", "b", "a"] == [m.node.host for m in draw(1, 0, seated, past).members]


def test_all_fixed_ranks_are_enough_though_a_survivor_has_not_come():
    """A newcomer has its rank: it was lost before anybody said so."""
    seated = {seat: fixed(each, seat) for seat, each in enumerate([A1, B1, D])}

    assert Seal() == decision(
        seated.values(), history(*(fixed(e, r) for r, e in enumerate([A, B, C])))
    )


def test_of_two_nodes_with_one_fixed_rank_the_later_one_counts():
    """The other one has died, which may not be noticed yet."""
    seated = {0: fixed(A, 0), 1: fixed(B, 1), 2: fixed(D, 1)}

    assert Await(1, 600) == decision(seated.values())
    assert ["a", "d", "c"] == [
        m.node.host for m in draw(0, 0, {**seated, 3: fixed(C, 2)}, None).members
    ]


def test_a_wish_does_not_move_survivors():
    """A replacement that wishes for rank 0 follows those who stayed."""
    seated = {0: C._replace(wish=0), 1: A1._replace(wish=2), 2: B1._replace(wish=1)}

    assert ["a", "b", "c"] == hosts(draw(1, 0, seated, history(A, B)))


def test_agents_of_one_host_are_ranked_by_seat():
    """Where the host names agree, who came first goes first."""
    seated = {5: node("h", workers=5), 2: node("h", workers=2)}

    drawn = draw(0, 0, seated, None)

    assert [2, 5] == [member.seat for member in drawn.members]


def test_survivors_keep_their_order_and_go_before_newcomers():
    """Ranks stay with the nodes that stay, whoever sits down first."""
    seated = {0: C, 1: B1, 2: A1}

    assert ["a", "b", "c"] == hosts(draw(1, 0, seated, history(A, B)))


def test_a_full_round_takes_survivors_first_and_then_by_seat():
    """Who comes too late for the maximum is a spare, whatever its name."""
    late = node("aaa")
    seated = {0: D, 1: C, 2: late, 3: B1}

    drawn = draw(1, 0, seated, history(A, B, kind=VerdictKind.NODE_LOST, lost=(0,)))

    assert (["b", "c", "d"], NotTaken()) == (hosts(drawn), place_of(drawn, 2))


def test_a_node_that_left_or_was_told_otherwise_is_not_taken():
    """The roster has only nodes that are there and agree on the limits."""
    seated = {
        0: A,
        1: B._replace(is_withdrawn=True),
        2: node("odd", limits=(1, 1)),
        3: C,
    }

    assert ["a", "c"] == hosts(draw(0, 0, seated, None))


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


def test_ranks_follow_the_roster_over_all_local_world_sizes():
    """Global ranks are sequential over the nodes, role ranks over the nodes of the role."""
    drawn = roster(
        node("a", workers=2, role="train"),
        node("b", workers=1, role="read"),
        node("c", workers=3, role="train"),
    )

    places = places_of(drawn)

    assert [(0, 6, 0, 5), (2, 6, 0, 1), (3, 6, 2, 5)] == [
        (each.first_rank, each.world_size, each.first_role_rank, each.role_world_size)
        for each in (places[seat] for seat in range(3))
    ]


def test_everybody_meets_at_the_first_node():
    """The workers' store is where the node of group rank 0 keeps a port free."""
    drawn = draw(0, 0, {0: B, 1: A}, None)

    assert {("address of a", 29500)} == {
        (place.workers_store.master_addr, place.workers_store.master_port)
        for place in places_of(drawn).values()
    }


@pytest.mark.parametrize("seed", range(50))
def test_no_two_nodes_share_a_rank(seed):
    """Whoever sits where: ranks and role ranks of a roster are each given exactly once."""
    dice = random.Random(seed)
    seated = {
        seat: node(
            f"node{dice.randrange(4)}",
            limits=(1, 8),
            workers=dice.randint(1, 4),
            role=dice.choice("ab"),
            withdrawn=dice.random() < 0.2,
        )
        for seat in dice.sample(range(20), dice.randint(1, 12))
    }
    seated[0] = node(limits=(1, 8))
    drawn = draw(0, 0, seated, None)
    ranks, role_ranks = [], {"a": [], "b": [], "default": []}
    for seat, place in places_of(drawn).items():
        workers = range(seated[seat].local_world_size)
        ranks += [place.first_rank + local for local in workers]
        role_ranks[seated[seat].role] += [place.first_role_rank + local for local in workers]
        assert len(ranks) <= place.world_size

    everyone = [ranks, *role_ranks.values()]
    assert [list(range(len(each))) for each in everyone] == [sorted(each) for each in everyone]


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


def test_natural_order_is_total_on_any_names():
    """Names of letters, digits and nothing can all be compared with each other."""
    names = ["node10", "node2", "", "2", "a", "node02", "²", "10.0.0.9", "10.0.0.10"]

    assert [
        "",
        "2",
        "10.0.0.9",
        "10.0.0.10",
        "a",
        "node02",
        "node2",
        "node10",
        "²",
    ] == sorted(names, key=natural_key)
