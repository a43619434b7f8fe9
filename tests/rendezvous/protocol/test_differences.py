"""The sentence about nodes that differ, on rosters written down as data."""

import pytest
from elrun.rendezvous.api.handler import NodeProfile
from elrun.rendezvous.protocol.differences import ARGUMENTS, SCRIPT, differences
from elrun.rendezvous.protocol.keys import RunKeys
from elrun.rendezvous.protocol.records import Limits, Member, Node, Roster
from elrun.rendezvous.protocol.roster import places_to_write
from elrun.rendezvous.protocol.wire import (
    MAX_NOTICE,
    read_node,
    read_place,
    read_roster,
    write_node,
    write_roster,
)

LIMITS = Limits(1, 8)
SAME = "; give all nodes the same, unless this is intended"
OR_TWO_JOBS = (
    "; give all nodes the same, or another --rdzv-id to another job, unless this is intended"
)
USUAL = {"torch": "2.13.0", SCRIPT: "train.py", ARGUMENTS: "1"}


def node(host, *, workers=1, role="default", **traits):
    return Node(host, "::1", 1, workers, role, LIMITS, traits={**USUAL, **traits})


def roster(*nodes):
    return Roster(0, 0, 0, LIMITS, tuple(Member(n, each) for n, each in enumerate(nodes)))


def sentence(*nodes):
    return differences(roster(*nodes))


def test_nodes_that_are_alike_are_not_mentioned():
    """However many there are."""
    assert "" == sentence(*[node(f"n{number}") for number in range(8)])


def test_the_odd_node_is_named_and_the_others_are_counted():
    """The usual value is that of the most nodes, wherever the odd one stands."""
    nodes = [node("a"), node("b", torch="2.14.1"), node("c"), node("d")]

    assert f"b (group rank 1) has torch 2.14.1, the 3 others 2.13.0{SAME}" == sentence(*nodes)


def test_of_two_nodes_both_are_named():
    """The first one's value is the usual one."""
    assert f"b (group rank 1) has torch 2.14.1, a (group rank 0) 2.13.0{SAME}" == sentence(
        node("a"), node("b", torch="2.14.1")
    )


def test_several_values_are_named_one_after_the_other():
    """The rarest comes first."""
    nodes = [node("a"), node("b", torch="2"), node("c", torch="3"), node("d")]

    assert (
        f"c (group rank 2) has torch 3, b (group rank 1) 2, the 2 others 2.13.0{SAME}"
        == sentence(*nodes)
    )


def test_what_a_node_does_not_know_of_itself_differs_from_nothing():
    """It may have no metadata of torch, or run an older elrun that writes no traits."""
    unknown = node("b", torch="2.14.1")
    unknown.traits.pop("torch")
    old = node("c")._replace(traits={}, local_world_size=4)

    assert "" == sentence(node("a"), unknown, old)


def test_an_option_that_one_node_was_given_is_compared_with_the_default():
    """Options that have their default are not written."""
    odd = node("b", **{"--rdzv-conf join_timeout": "60"})

    assert (
        f"b (group rank 1) has --rdzv-conf join_timeout=60, a (group rank 0) the default{SAME}"
        == sentence(node("a"), odd)
    )


def test_the_number_of_workers_is_compared():
    """A mistake more often than not, though it is allowed."""
    nodes = [node("a", workers=8), node("b", workers=4), node("c", workers=8)]

    assert f"b (group rank 1) has --nproc-per-node 4, the 2 others 8{SAME}" == sentence(*nodes)


def test_nodes_of_different_roles_may_run_different_programs():
    """That is what roles are for; versions have to be the same all the same."""
    servers = [node("a", role="ps", workers=2, **{SCRIPT: "ps.py"}), node("b", role="ps")]
    servers[1] = node("b", role="ps", workers=2, **{SCRIPT: "ps.py"})

    assert "" == sentence(node("c"), node("d"), *servers)
    assert "torch" in sentence(node("c"), servers[0], node("d", role="ps", torch="3"))


def test_other_arguments_are_told_without_the_arguments():
    """They may be secret; and where the script is another one, they are no news."""
    odd = node("b", **{ARGUMENTS: "2"})
    other_script = node("b", **{ARGUMENTS: "2", SCRIPT: "b.py"})

    assert (
        f"b (group rank 1) gives the script other arguments than the 2 others{OR_TWO_JOBS}"
        == sentence(node("a"), odd, node("c"))
    )
    assert "arguments" not in sentence(node("a"), other_script, node("c"))


def test_nodes_that_all_have_arguments_of_their_own_mean_it():
    """A script may be given its host, for example."""
    assert "" == sentence(*[node(f"n{n}", **{ARGUMENTS: f"{n}"}) for n in range(3)])


def test_all_places_of_a_round_have_the_sentence_and_its_roster_no_traits():
    """So no node asks for more than its place, and a roster of 10,000 nodes stays small."""
    drawn = roster(node("a"), node("b", torch="3"))
    drawn = drawn._replace(notice=differences(drawn))
    read = read_roster("roster", write_roster(drawn))

    keys = RunKeys("r").round(0)
    written = places_to_write(RunKeys("r"), read, 2)

    assert [drawn.notice] * 2 == [
        read_place("place", written[keys.place(seat)]).notice for seat in range(2)
    ]
    assert [{}, {}] == [member.node.traits for member in read.members]


def test_a_long_sentence_is_cut():
    """As many differences as there can be still fit into a place."""
    odd = node("ü" * 100, **{f"--option{n} é": "ß" * 99 for n in range(20)})
    drawn = roster(node("a"), odd)
    drawn = drawn._replace(notice=differences(drawn))

    written = places_to_write(RunKeys("r"), drawn, 1)
    place = read_place("place", written[RunKeys("r").round(0).place(0)])

    assert drawn.notice[:MAX_NOTICE] == place.notice


@pytest.mark.parametrize("traits", [{"torch": "2.13.0"}, {}])
def test_a_record_keeps_the_traits(traits):
    """None are written where there are none, as before."""
    mine = node("a")._replace(traits=traits)

    assert mine == read_node("node/0", write_node(mine))


def test_nodes_of_a_job_hear_of_the_difference_with_their_places(job):
    """Whichever node seals the round."""
    nodes = job.some(3, (3, 3))
    for number, each in enumerate(nodes):
        each.handler.describe(NodeProfile(1, traits={"torch": f"{number // 2}"}))

    places = job.rendezvous(nodes)

    assert [True] * 3 == [" has torch 1, the 2 others 0" in place.notice for place in places]
    assert 1 == len({place.notice for place in places})


@pytest.mark.parametrize(
    ("mine", "others", "suits"),
    [
        ((1, 2, 0, 500, 2000), (1, 2, 0, 500, 2000), True),
        ((1, 2, 0, 500, 2000), (1, 2, 0, 1000, 5000), True),
        ((1, 2, 0, 500, 2000), (1, 2, 0, 1001, 5000), False),
        ((1, 2, 0, 500, 2000), (1, 2, 0), True),
        ((1, 2, 0, 500, 2000), (1, 2, 1, 500, 2000), False),
        ((1, 2, 0, 500, 2000), (2, 2, 0, 500, 2000), False),
    ],
)
def test_a_node_that_beats_too_seldom_for_another_one_does_not_suit_it(mine, others, suits):
    """It would be lost again and again; an older elrun does not tell how often it beats."""
    assert [suits, suits] == [
        Limits(*mine).suit(Limits(*others)),
        Limits(*others).suit(Limits(*mine)),
    ]


def test_long_traits_keep_no_node_out():
    """They are only compared; a role of many letters has the room."""
    long = node("a", role="\u00e9" * 512, script="\u00e9" * 512)

    assert {} == read_node("key", write_node(long)).traits
