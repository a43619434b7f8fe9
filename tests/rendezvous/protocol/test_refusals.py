"""Nodes that can't take part, as records: what the others decide, say and write."""

import pytest
from elrun.rendezvous.api.handler import Verdict, VerdictKind
from elrun.rendezvous.errors import RendezvousStateError
from elrun.rendezvous.protocol.phrases import refusals, shortfall
from elrun.rendezvous.protocol.records import History, Limits, Member, Node, Roster
from elrun.rendezvous.protocol.round import Await, GiveUp, Seal, decide
from elrun.rendezvous.protocol.wire import read_node, write_node

LAST_CALL_S, DEADLINE = 3, 600


def here(limits):
    return Node("a", "::1", 1, 1, "default", limits)


def refused(limits, *, is_host=False, host="b"):
    node = here(limits)._replace(host=host, is_withdrawn=True, refusal="x.py: no such script")
    return node._replace(is_host=is_host)


def decision(limits, nodes, refusing, now, *, is_host=False, history=None):
    limits = Limits(*limits)
    records = [here(limits)] * nodes + [refused(limits, is_host=is_host)] * refusing
    return decide(
        dict(enumerate(records)),
        history and history(limits),
        mine=limits,
        now=now,
        last_joined_at=10,
        deadline=DEADLINE,
        last_call_s=LAST_CALL_S,
        survivor_s=0,
    )


def round_of_two(limits):
    members = tuple(Member(seat, here(limits)) for seat in range(2))
    return History(Roster(0, 0, 0, limits, members), Verdict(VerdictKind.NODE_LOST, lost=(1,)))


@pytest.mark.parametrize(
    ("limits", "nodes", "refusing", "now", "expected"),
    [
        ((2, 2), 1, 1, 12.9, Await(1, 13)),  # a node that is started again may be quick
        ((2, 2), 1, 1, 13, GiveUp()),
        ((2, 3), 1, 1, 500, Await(1, DEADLINE)),  # the third node may come
        ((2, 3), 1, 2, 13, GiveUp()),
        ((1, 3), 0, 3, 13, GiveUp()),
        ((1, 3), 1, 2, 13, Seal()),
        ((2, 2), 2, 1, 10, Seal()),  # there was a spare
        ((2, 2), 1, 0, 500, Await(1, DEADLINE)),
    ],
)
def test_a_round_that_can_not_form_is_given_up_after_a_last_call(
    limits, nodes, refusing, now, expected
):
    """By the number of nodes that the job has at most."""
    assert expected == decision(limits, nodes, refusing, now)


@pytest.mark.parametrize("has_left", [False, True])
@pytest.mark.parametrize(
    ("limits", "other", "nodes", "now", "expected"),
    [
        ((2, 2), (2, 2, 1), 1, 12.9, Await(1, 13)),
        ((2, 2), (2, 2, 1), 1, 13, GiveUp()),
        ((2, 2), (3, 3), 1, 13, GiveUp()),
        ((3, 3), (2, 2), 1, 13, GiveUp()),  # the job has two nodes, says the other one
        ((2, 2), (2, 2, 0, 9000, 30000), 1, 13, GiveUp()),  # its beats are too rare
        ((8, 8), (2, 2), 1, 13, GiveUp()),
        ((8, 8), (8, 8, 1), 6, 500, Await(2, DEADLINE)),  # it may be another job's
        ((8, 8), (8, 8, 1), 7, 13, GiveUp()),
        ((2, 3), (2, 3, 1), 1, 500, Await(1, DEADLINE)),
        ((1, 2), (2, 2), 1, 13, Seal()),
    ],
)
def test_a_round_that_other_limits_leave_too_few_is_given_up_after_a_last_call(
    limits, other, nodes, now, expected, has_left
):
    """Once as many nodes have come as the job may have, by any of them."""
    mine = Limits(*limits, *(0, 0, 8000)[len(limits) - 2 :])
    misfit = here(Limits(*other))._replace(host="b", is_withdrawn=has_left)
    found = decide(
        dict(enumerate([*[here(mine)] * nodes, misfit])),
        None,
        mine=mine,
        now=now,
        last_joined_at=10,
        deadline=DEADLINE,
        last_call_s=LAST_CALL_S,
        survivor_s=0,
    )

    assert expected == found


@pytest.mark.parametrize("limits", [(2, 2), (1, 3)])
def test_a_round_whose_host_leaves_is_given_up_at_once(limits):
    """However many others are there."""
    assert GiveUp() == decision(limits, 2, 1, 10, is_host=True)


@pytest.mark.parametrize("is_host", [True, False])
def test_a_later_round_waits_for_a_node_that_nobody_knows_yet(is_host):
    """A machine that comes in the place of a lost one may be a second one."""
    found = decision((2, 2), 1, 1, 500, is_host=is_host, history=round_of_two)

    assert Await(1, DEADLINE) == found


def test_the_sentence_names_each_node_once_and_not_all_of_a_thousand():
    """Each with its own reason."""
    limits = Limits(2, 2)
    seated = {n: refused(limits, host=f"n{n}") for n in range(1000)}

    assert (
        "n0 can't take part: x.py: no such script; n1 can't take part: x.py: no such script; "
        "n2 can't take part: x.py: no such script; 997 more can't, either"
    ) == refusals(seated)
    assert "joined and left" not in shortfall(
        {0: refused(limits)}, None, mine=limits, within_s=1, left=[refused(limits)]
    )


@pytest.mark.parametrize("is_host", [True, False])
def test_a_refusal_is_read_as_it_was_written(is_host):
    """A node without one has no such fields."""
    node = refused(Limits(2, 2), is_host=is_host)

    assert (node, False) == (
        read_node("key", write_node(node)),
        b"refusal" in write_node(here(Limits(2, 2))),
    )


@pytest.mark.parametrize("junk", [b'"refusal":1', b'"refusal":"' + b"x" * 600 + b'"'])
def test_a_refusal_that_is_no_sentence_is_none(junk):
    """The record is refused, as with any other field."""
    data = write_node(refused(Limits(2, 2))).replace(b'"refusal":"x.py: no such script"', junk)

    with pytest.raises(RendezvousStateError, match="refusal"):
        read_node("key", data)
