"""A node that can't take part says so, and the others wait no longer than that makes sense."""

import pytest
from elrun.rendezvous.errors import RendezvousClosedError, RendezvousConnectionError
from round_kit import PATIENCE_S, failed

SENTENCE = "train.py: there is no such script"


@pytest.fixture(name="quick")
def _quick():
    """Times that let a test see the end of the wait; the join timeout is none of them."""
    return {"last_call_s": 0.05, "heartbeat_s": 0.05, "patience_s": 0.2, "deputy_s": 0.1}


def ends_of(joins):
    """Return what the nodes are told, each by the error of its wait."""
    return [str(join.exception(PATIENCE_S)) for join in joins]


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("is_first", [True, False])
def test_nodes_that_are_too_few_without_it_wait_no_longer(job, quick, size, is_first):
    """All of them say which node it is, and why."""
    *others, broken = job.some(size, (size, size), **quick)
    joins = [] if is_first else [node.join() for node in others]

    has_said_so = broken.handler.decline(SENTENCE)
    joins = joins or [node.join() for node in others]

    assert (True, [True] * len(others)) == (
        has_said_so,
        [f"can't take part: {SENTENCE}" in each for each in ends_of(joins)],
    )


def test_a_node_that_comes_late_learns_it_too(job, quick):
    """The run has ended for it."""
    first, broken, late = job.some(3, (3, 3), **quick)
    broken.handler.decline(SENTENCE)
    ends_of([first.join()])

    with pytest.raises(RendezvousClosedError, match=SENTENCE):
        late.handler.next_rendezvous()


@pytest.mark.parametrize("is_first", [True, False])
def test_nodes_that_are_enough_go_on_without_it(job, quick, is_first):
    """It is no spare, either."""
    *others, broken = job.some(3, (2, 3), **quick)
    joins = [] if is_first else [node.join() for node in others]
    broken.handler.decline(SENTENCE)
    joins = joins or [node.join() for node in others]

    assert [(2, 0), (2, 1)] == sorted(
        (place.group_world_size, place.group_rank)
        for place in (join.result(PATIENCE_S).placement for join in joins)
    )


def test_a_running_round_is_none_of_its_business(job, quick):
    """Nor is a later one that waits for a node: another machine may come."""
    nodes = job.running(2, (2, 2), **quick)
    broken, spare = job.some(2, (2, 2), **quick)

    has_said_so = broken.handler.decline(SENTENCE)
    verdicts = [node.handler.verdict() for node in nodes]
    nodes[0].handler.conclude(failed())
    nodes[1].handler.shutdown()
    joins = [nodes[0].join(), spare.join()]

    assert (True, [None, None], [2, 2]) == (
        has_said_so,
        verdicts,
        [join.result(PATIENCE_S).placement.group_world_size for join in joins],
    )


def test_without_the_host_of_the_store_there_is_no_job(job, quick):
    """The others would be enough; they end before it takes their store along."""
    host = job.node((1, 3), host=True, **quick, refusal_s=5)
    others = job.some(2, (1, 3), store=host.store, **{**quick, "last_call_s": 60})
    joins = [node.join() for node in others]
    host.handler.decline(SENTENCE)

    assert [True, True] == [SENTENCE in each for each in ends_of(joins)]


def test_a_wait_shows_who_has_declined(job):
    """Before it ends, and where it goes on."""
    node, broken = job.some(2, (1, 3))
    node.join()
    broken.handler.decline(SENTENCE)

    while not (wait := node.handler.describe_wait()).startswith("1 of 1:3 nodes is here"):
        pass

    assert wait.endswith(f"can't take part: {SENTENCE}")


def test_a_member_can_not_decline_any_more(job):
    """A verdict tells the others why it leaves."""
    (node,) = job.running(1, (1, 1))

    assert not node.handler.decline(SENTENCE)


def test_a_long_sentence_is_cut(job, quick):
    """A record has a limit."""
    node, broken = job.some(2, **quick)
    broken.handler.decline("\N{SNOWMAN}" * 10_000)

    assert "\N{SNOWMAN}" * 300 in ends_of([node.join()])[0]


def test_a_store_that_is_lost_is_nothing_to_report(job):
    """The node ends by its own reason anyway."""
    node = job.node()
    node.store.lose = RendezvousConnectionError
    node.store.add = node.store.get = lambda *_: (_ for _ in ()).throw(
        RendezvousConnectionError("gone")
    )

    assert not node.handler.decline(SENTENCE)
