"""Which nodes a round takes, and in which order: rosters and ranks, on histories as data."""

import random

import pytest
from elrun.rendezvous.api.handler import VerdictKind
from elrun.rendezvous.protocol.records import (
    Limits,
    NotTaken,
    Origin,
)
from elrun.rendezvous.protocol.roster import (
    natural_key,
    place_of,
    places_of,
)
from elrun.rendezvous.protocol.round import (
    Await,
    Seal,
)
from history_kit import A1, B1, A, B, C, D, decision, draw, history, node, roster


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
