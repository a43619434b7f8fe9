"""The sentence about too few nodes, on rounds written down as data."""

import pytest
from elrun.rendezvous.api.handler import Verdict, VerdictKind
from elrun.rendezvous.protocol.phrases import contradictions, progress, shortfall
from elrun.rendezvous.protocol.records import History, Limits, Member, Node, Origin, Roster

LIMITS = Limits(3, 3)


def node(host, rank=None):
    origin = None if rank is None else Origin(4, rank)
    return Node(host, "::1", 1, 1, "default", LIMITS, origin)


def after_round_4(*hosts, lost=()):
    members = tuple(Member(seat, node(host)) for seat, host in enumerate(hosts))
    return History(Roster(4, 0, 0, LIMITS, members), Verdict(VerdictKind.NODE_LOST, lost=lost))


def said(seated, history=None):
    return shortfall(dict(enumerate(seated)), history, mine=LIMITS, within_s=30)


def test_a_first_round_names_those_who_are_there():
    """Whoever started the others knows by that which did not come."""
    assert (
        "2 of 3 nodes joined within 30 s (--rdzv-conf join_timeout=...): node2 and node10; "
        "the others need the same --rdzv-endpoint and --rdzv-id"
        == said([node("node10"), node("node2")])
    )


def test_a_host_that_carries_several_nodes_is_named_once():
    """With their number."""
    assert ": a (2 nodes);" in said([node("a"), node("a")])


@pytest.mark.parametrize("lost", [(), (1,)])
def test_a_later_round_names_those_who_are_missing(lost):
    """Whether or not their silence was noticed before."""
    history = after_round_4("node1", "node2", "node3", lost=lost)

    assert said([node("node1", 0), node("node3", 2)], history).endswith(
        "): node1 and node3; missing since round 4: node2 (group rank 1)"
    )


def test_one_that_came_back_and_left_is_missing_too():
    """Its record is there, its node is not."""
    gone = node("node2", 1)._replace(is_withdrawn=True)

    assert said([node("node1", 0), gone], after_round_4("node1", "node2")).endswith(
        "): node1; missing since round 4: node2 (group rank 1)"
    )


def test_nobody_is_missing_after_a_round_without_members():
    """A void round has no roster to compare with."""
    assert said([node("node1")], after_round_4()).endswith("): node1")


def test_a_long_list_is_cut():
    """A job of a thousand nodes that lacks five hundred has a sentence, no page."""
    hosts = [f"node{number}" for number in range(40)]
    text = said([node("node0", 0)], after_round_4(*hosts))

    assert text.endswith("node8 (group rank 8) and 31 more")
    assert "node9" not in text


@pytest.mark.parametrize(
    ("hosts", "limits", "sentence"),
    [
        (["b", "a"], Limits(4, 4), "2 of 4 nodes are here (a and b); 2 more are needed"),
        (["a"], Limits(2, 4), "1 of 2:4 nodes is here (a); 1 more is needed"),
        (["a", "b"], Limits(2, 4), "2 of 2:4 nodes are here (a and b)"),
    ],
)
def test_a_round_that_forms_says_how_far_it_is(hosts, limits, sentence):
    """Who is there, and how many more it takes."""
    seated = dict(enumerate(map(node, hosts)))

    assert sentence == progress(len(hosts), seated, limits)


def test_a_round_that_forms_names_those_who_have_not_come_back():
    """They were in the round before."""
    seated = dict(enumerate([node("node1", 0), node("node3", 2)]))

    assert (
        "2 of 3 nodes are here (node1 and node3); missing: node2 (group rank 1); 1 more is needed"
        == progress(2, seated, LIMITS, after_round_4("node1", "node2", "node3"))
    )


def test_a_round_that_has_enough_nodes_says_when_it_begins():
    """Each further node extends its last call."""
    sentence = progress(2, {}, Limits(2, 4), None, 3.0)

    assert "2 of 2:4 nodes are here; the last call ends 3 s after the latest node" == sentence


def test_of_many_nodes_only_the_number_is_said():
    """Not all of them are read."""
    assert "900 of 1000 nodes are here; 100 more are needed" == progress(
        900, {}, Limits(1000, 1000)
    )


def fixed(rank):
    return node(f"h{rank}")._replace(wish=rank, is_fixed=True)


def test_a_fixed_rank_that_is_missing_is_named():
    """Whoever started the nodes knows by its rank which one did not come."""
    assert said([fixed(2)]).endswith(": h2; node ranks 0 and 1 are missing")
    assert "2 of 3 nodes are here (h0 and h2); node rank 1 is missing" == progress(
        2, {0: fixed(2), 1: fixed(0)}, LIMITS
    )


def test_of_two_nodes_with_one_fixed_rank_the_first_counts_as_gone():
    """A node that came back took another seat."""
    assert said([fixed(1), fixed(0), fixed(1)]).startswith("2 of 3 nodes")


@pytest.mark.parametrize(
    ("limits", "difference"),
    [
        (Limits(3, 3, 2), "--max-restarts 2, and this node 0"),
        (Limits(2, 4), "--nnodes 2:4, and this node 3"),
    ],
)
@pytest.mark.parametrize("has_left", [True, False])
def test_a_node_that_was_told_otherwise_is_named_to_those_who_wait_for_it(
    limits, difference, has_left
):
    """It has said so on its own host, and theirs would only say that it is missing."""
    other = node("b")._replace(limits=limits, is_withdrawn=has_left)
    sentence = f"; b was refused: it has {difference}; give the same on every node"

    assert sentence == contradictions({0: node("a"), 1: other}, LIMITS)
    assert sentence in said([node("a"), other])


def test_a_node_that_gave_up_a_moment_before_is_named():
    """Of nodes that wait equally long, the second would else say that it was alone."""
    gone, other = node("b"), node("c")._replace(limits=Limits(3, 4))
    sentence = shortfall({0: node("a")}, None, mine=LIMITS, within_s=30, left=[gone, other])

    assert "(--rdzv-conf join_timeout=...): a; b joined and left; the others need" in sentence


def test_nothing_is_added_where_all_nodes_were_told_the_same():
    """Those that left for another reason aren't refused."""
    gone = node("b")._replace(is_withdrawn=True)

    assert not contradictions({0: node("a"), 1: gone}, LIMITS)
