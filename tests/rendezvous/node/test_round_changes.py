"""What changes a running round: failures, late nodes, spares and notices, over every store."""

import queue
import socket
import threading

import pytest
from elrun.rendezvous.api.handler import Verdict, VerdictKind
from elrun.rendezvous.errors import (
    RendezvousGracefulExitError,
    RendezvousStateError,
)
from elrun.rendezvous.protocol.keys import RunKeys
from round_kit import PATIENCE_S, await_seats, failed, kinds, placements

ROUND_0, ROUND_1 = (RunKeys("run").round(number) for number in (0, 1))


def test_a_failure_reaches_every_node_and_costs_one_restart(job):
    """One node's verdict is everybody's; the next round counts it."""
    nodes = job.running(3, (3, 3))
    nodes[1].handler.conclude(failed(1, pid=12))
    verdicts = [node.await_verdict() for node in nodes]
    places = job.rendezvous(nodes)

    assert [failed(1, pid=12)] * 3 == verdicts
    assert {(1, 1)} == {(place.round, place.restart_count) for place in places}


def test_nodes_keep_their_ranks_over_a_restart(job):
    """A survivor stays where it was."""
    nodes = job.running(4, (4, 4))
    nodes[2].handler.conclude(failed(2))
    kinds(nodes)

    assert [0, 1, 2, 3] == [place.group_rank for place in job.rendezvous(nodes)]


def test_simultaneous_failures_agree_on_one_verdict(job):
    """The first proposal stands, and everybody is told it."""
    nodes = job.running(4, (4, 4))
    together = threading.Barrier(4)
    standing = [None] * 4

    def fail(rank):
        together.wait(PATIENCE_S)
        standing[rank] = nodes[rank].handler.conclude(failed(rank))

    threads = [threading.Thread(target=fail, args=(rank,)) for rank in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)

    assert [standing[0]] * 8 == standing + [node.await_verdict() for node in nodes]


def test_a_late_node_starts_a_new_round_with_everyone_at_no_cost(job):
    """A newcomer with a free seat waiting for it ends the round; nobody pays a restart."""
    early = job.running(1, (1, 2), last_call_s=0.05)
    late = job.node((1, 2))
    joining = late.join()
    verdicts = kinds(early)
    places = placements([early[0].join(), joining])

    assert [VerdictKind.NODE_WAITING] == verdicts
    assert [(1, 0, 2, 0), (1, 1, 2, 0)] == [
        (place.round, place.group_rank, place.group_world_size, place.restart_count)
        for place in places
    ]


def test_a_late_node_does_not_disturb_nodes_that_have_finished(memory_job):
    """When one node's workers have succeeded, a newcomer waits for the end."""
    first, second = memory_job.running(2, (2, 3), last_call_s=0.2)
    first.handler.arrive()
    joining = memory_job.node((2, 3)).join()
    await_seats(first, ROUND_1, 1)
    second.handler.arrive()

    with pytest.raises(RendezvousGracefulExitError):
        joining.result(PATIENCE_S)
    assert [VerdictKind.DONE] * 2 == kinds([first, second])


def test_one_more_than_the_maximum_is_a_spare_that_takes_a_lost_nodes_place(job):
    """A spare waits without disturbing, and takes part once there is a place."""
    nodes = job.running(2, (2, 2))
    spare = job.node()
    joining = spare.join()
    await_seats(nodes[0], ROUND_1, 1)
    nodes[1].handler.conclude(Verdict(VerdictKind.NODE_LOST, 1, "node left", lost=(1,)))
    kinds(nodes)
    places = placements([nodes[0].join(), joining])

    assert [(1, 0, 0), (1, 1, 0)] == [
        (place.round, place.group_rank, place.restart_count) for place in places
    ]


def test_a_spare_says_that_it_is_one(memory_job, caplog):
    """Two jobs that share a name by accident would else wait in silence."""
    nodes = memory_job.running(2, (2, 2))
    memory_job.node().join()
    while len(caplog.records) < 2:  # each side says so
        assert not nodes[0].store.wait(["no such key"], 0.01)
    nodes[0].handler.conclude(failed())
    kinds(nodes)
    memory_job.rendezvous(nodes)
    here = socket.gethostname()

    said = "\n".join(each.getMessage() for each in caplog.records if each.levelname == "WARNING")
    assert 1 == said.count(f"run 'run' needs no further node now ({here} (2 nodes))")
    assert 1 == said.count(f"run 'run' has all its nodes, and one more on {here} waits as a spare")


def test_a_spare_leaves_its_place_to_the_survivors(job):
    """After a restart the same nodes are taken, although the spare sat down first."""
    nodes = job.running(2, (2, 2))
    spare = job.node()
    joining = spare.join()
    await_seats(nodes[0], ROUND_1, 1)
    nodes[0].handler.conclude(failed())
    kinds(nodes)
    places = job.rendezvous(nodes)
    waits = not joining.done()
    for node in nodes:
        node.handler.arrive()

    with pytest.raises(RendezvousGracefulExitError, match="did not need this node"):
        joining.result(PATIENCE_S)
    assert (True, [0, 1]) == (waits, [place.group_rank for place in places])


def test_a_node_may_ask_for_a_new_round_without_a_verdict(job):
    """An agent that just meets again takes the others along, at no cost."""
    one, two = job.running(2, (2, 2))
    joining = one.join()
    verdict = two.await_verdict().kind
    places = placements([joining, two.join()])

    assert (VerdictKind.NODE_WAITING, [1, 1], [0, 0]) == (
        verdict,
        [place.round for place in places],
        [place.restart_count for place in places],
    )


def test_a_node_needs_a_round_to_speak_of(job):
    """Before the first rendezvous there is nothing to conclude."""
    with pytest.raises(RendezvousStateError, match="in no round"):
        job.node().handler.conclude(failed())


def test_a_notice_reaches_each_agent_of_the_round_in_order(job):
    """The first one under a number stands, whichever node announces it."""
    nodes = job.some(2)
    heard = [queue.SimpleQueue() for _ in nodes]
    for node, found in zip(nodes, heard, strict=True):
        node.handler.listen(["10"], lambda *notice, found=found: found.put(notice))
    job.rendezvous(nodes)

    standing = [
        nodes[0].handler.announce("10", 0, b"first"),
        nodes[1].handler.announce("10", 0, b"late"),
        nodes[1].handler.announce("12", 0, b"nobody listens to"),
        nodes[1].handler.announce("10", 1, b"second"),
    ]

    expected = [("10", 0, b"first"), ("10", 1, b"second")]
    assert [b"first", b"first", b"nobody listens to", b"second"] == standing
    assert [expected] * 2 == [[found.get(timeout=PATIENCE_S) for _ in range(2)] for found in heard]


def test_a_notice_is_of_its_round(job):
    """What was announced in a round that has ended is not heard in the next one."""
    nodes = job.some(2, max_restarts=1)
    heard = queue.SimpleQueue()
    nodes[0].handler.listen(["10"], lambda *notice: heard.put(notice))
    job.rendezvous(nodes)
    nodes[1].handler.announce("10", 0, b"old")
    assert b"old" == heard.get(timeout=PATIENCE_S)[2]
    nodes[1].handler.conclude(failed(1))
    job.rendezvous(nodes)

    nodes[1].handler.announce("10", 0, b"new")

    assert ("10", 0, b"new") == heard.get(timeout=PATIENCE_S)
