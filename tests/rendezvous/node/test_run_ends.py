"""How a run ends, and what later nodes hear of it, over every kind of store."""

import threading

import pytest
from elrun.rendezvous.api.handler import VerdictKind
from elrun.rendezvous.errors import (
    RendezvousClosedError,
)
from elrun.rendezvous.protocol.keys import RunKeys
from round_kit import PATIENCE_S, await_seats, failed, kinds

ROUND_0, ROUND_1 = (RunKeys("run").round(number) for number in (0, 1))


def test_the_last_to_arrive_ends_the_run(job):
    """DONE comes when every node's workers have succeeded, not before."""
    nodes = job.running(3, (3, 3))
    for node in nodes[:2]:
        node.handler.arrive()
    early = nodes[0].handler.verdict()
    nodes[2].handler.arrive()

    assert (None, [VerdictKind.DONE] * 3) == (early, kinds(nodes))


def test_a_newcomer_to_a_run_that_has_ended_is_turned_away(job):
    """The run stays ended for all who come later."""
    nodes = job.running(2, (2, 2))
    for node in nodes:
        node.handler.arrive()
    kinds(nodes)

    with pytest.raises(RendezvousClosedError, match=r"run 'run' has ended \(done\)"):
        job.node().join().result(PATIENCE_S)


@pytest.mark.parametrize(
    ("afterlife_s", "words"),
    [(0, "once its last node has left"), (60, "60 s after its last node has left")],
)
def test_whoever_wants_to_run_a_job_again_is_told_how(memory_job, afterlife_s, words):
    """A node can't tell whether it is late or the first of another run of the same name."""
    (node,) = memory_job.running(1, (1, 1))
    node.handler.set_closed()

    with pytest.raises(RendezvousClosedError, match=f"another --rdzv-id, or start it {words}"):
        memory_job.node((1, 1), afterlife_s=afterlife_s).join().result(PATIENCE_S)


def test_a_member_of_a_run_that_has_ended_is_turned_away(job):
    """No round follows DONE."""
    (node,) = job.running(1, (1, 1))
    node.handler.arrive()
    node.await_verdict()

    with pytest.raises(RendezvousClosedError):
        node.join().result(PATIENCE_S)


def test_closing_ends_a_running_round(job):
    """set_closed() aborts the round for all its nodes and turns newcomers away."""
    nodes = job.running(2, (2, 2))
    nodes[0].handler.set_closed()
    newcomer = job.node()

    assert [VerdictKind.ABORTED] * 2 == kinds(nodes)
    with pytest.raises(RendezvousClosedError, match="aborted"):
        newcomer.join().result(PATIENCE_S)


def test_closing_after_a_failure_turns_away_those_who_wait(job):
    """When the budget is spent, every agent closes the run; a spare learns it."""
    nodes = job.running(2, (2, 2))
    joining = job.node().join()
    await_seats(nodes[0], ROUND_1, 1)
    nodes[0].handler.conclude(failed())
    kinds(nodes)
    for node in nodes:
        node.handler.set_closed()

    with pytest.raises(RendezvousClosedError, match="aborted"):
        joining.result(PATIENCE_S)


def test_closing_wakes_the_nodes_of_a_forming_round(job):
    """Survivors that wait for others learn at once that the run has ended."""
    one, two, three = job.running(3, (3, 3))
    one.handler.conclude(failed())
    kinds([one, two, three])
    joins = [one.join(), two.join()]
    await_seats(three, ROUND_1, 2)
    three.handler.set_closed()

    for join in joins:
        with pytest.raises(RendezvousClosedError, match="aborted"):
            join.result(PATIENCE_S)


@pytest.mark.parametrize("end", ["done", "closed", "closed between rounds"])
def test_everybody_can_tell_that_a_run_has_ended(job, end):
    """is_closed() is false while rounds go on, and true once none can follow."""
    node, other = job.running(2, (2, 2))
    before = [node.handler.is_closed(), other.handler.is_closed()]
    if end == "done":
        node.handler.arrive()
        other.handler.arrive()
    else:
        if end == "closed between rounds":
            node.handler.conclude(failed())
        node.handler.set_closed()

    assert ([False, False], [True, True]) == (
        before,
        [node.handler.is_closed(), other.handler.is_closed()],
    )


def test_outcomes_are_collected_by_group_rank(job):
    """Who did not publish in time is None."""
    nodes = job.running(3, (3, 3))
    nodes[0].handler.publish(b"zero")
    nodes[2].handler.publish(b"\0two")

    assert [b"zero", None, b"\0two"] == nodes[0].handler.collect(0.05)


def test_collecting_waits_for_the_slowest(job):
    """All outcomes are there as soon as the last has come."""
    nodes = job.running(2, (2, 2))
    nodes[0].handler.publish(b"zero")
    late = threading.Thread(target=nodes[1].handler.publish, args=(b"one",))
    late.start()

    assert [b"zero", b"one"] == nodes[0].handler.collect(PATIENCE_S)
    late.join(PATIENCE_S)


def test_shutdown_may_be_called_at_any_time(job):
    """Before the first round, twice, and then no round follows."""
    node = job.node()

    assert [True, True] == [node.handler.shutdown(), node.handler.shutdown()]
    with pytest.raises(RendezvousClosedError):
        node.join().result(PATIENCE_S)
