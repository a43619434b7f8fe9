"""Whole rounds: nodes as threads form them, over every kind of store."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from elrun.rendezvous.errors import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousStateError,
    RendezvousTimeoutError,
)
from elrun.rendezvous.protocol.keys import RunKeys
from round_kit import PATIENCE_S, await_seats, failed, placements

ROUND_0, ROUND_1 = (RunKeys("run").round(number) for number in (0, 1))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_nodes_form_a_round_with_consistent_ranks(job, count):
    """Each rank is given once, and all agree on sizes and on where the workers meet."""
    places = job.rendezvous(job.some(count, (count, count)))

    assert list(range(count)) == sorted(place.group_rank for place in places)
    assert 1 == len({(place.group_world_size, place.workers_store) for place in places})
    assert {(0, 0, count)} == {
        (place.round, place.restart_count, place.world_size) for place in places
    }


def test_a_node_may_wish_for_a_rank(job):
    """Where the nodes of a first round were given ranks, those are theirs."""
    nodes = [job.node((3, 3), rank=rank) for rank in ("2", "0", "1")]

    assert [2, 0, 1] == [place.group_rank for place in job.rendezvous(nodes)]


@pytest.mark.parametrize("rank", ["-1", "first", 1 << 31])
def test_a_wish_that_is_no_rank_is_refused(memory_job, rank):
    """Before others could stumble over it."""
    with pytest.raises(ValueError, match=f"rank={rank}: give a "):
        memory_job.node(rank=rank)


def test_ranks_span_nodes_of_different_sizes_and_roles(job):
    """Global ranks cover all workers, role ranks those of the role."""
    nodes = [
        job.node((3, 3), workers=1, role="read"),
        job.node((3, 3), workers=4, role="train"),
        job.node((3, 3), workers=2, role="train"),
    ]
    workers = [1, 4, 2]
    read, *train = places = job.rendezvous(nodes)

    ranks = [
        place.first_rank + local
        for place, count in zip(places, workers, strict=True)
        for local in range(count)
    ]
    train_ranks = [
        place.first_role_rank + local
        for place, count in zip(train, workers[1:], strict=True)
        for local in range(count)
    ]
    assert (list(range(7)), list(range(6))) == (sorted(ranks), sorted(train_ranks))
    assert (0, 1, {6}) == (
        read.first_role_rank,
        read.role_world_size,
        {place.role_world_size for place in train},
    )


def test_agents_share_a_store_of_their_round(job):
    """The info's store speaks as torch's does, and carries values from node to node."""
    first, second = (join.result(PATIENCE_S) for join in [n.join() for n in job.some(2)])
    first.store.set("greeting", "hello")

    assert b"hello" == second.store.get("greeting")


def test_a_range_of_nodes_seals_after_the_last_call(job):
    """With the minimum seated, the round waits for others only as long as the last call lasts."""
    nodes = job.some(2, (2, 4), last_call_s=0.2)

    assert [2, 2] == [place.group_world_size for place in job.rendezvous(nodes)]


def test_the_maximum_seals_at_once(job):
    """Nobody waits for a last call when there is no seat left."""
    assert [3] * 3 == [place.group_world_size for place in job.rendezvous(job.some(3, (1, 3)))]


def test_each_round_has_a_port_of_its_own(job):
    """Workers of a new attempt never meet where an earlier attempt did."""
    (node,) = job.running(1, (1, 1))
    ports = set()
    for _ in range(5):
        node.handler.conclude(failed())
        ports.add(node.join().result(PATIENCE_S).bootstrap_store_info.master_port)

    assert 5 == len(ports)


def test_the_node_of_rank_0_listens_where_all_workers_meet(job):
    """The others' agents are given nothing; every node's workers are clients from then on."""
    nodes = job.some(3, (3, 3))
    places = job.rendezvous(nodes)
    ports = set()
    for node, place in zip(nodes, places, strict=True):
        listener = node.handler.workers_listener()
        assert (listener is not None) == (place.group_rank == 0)
        if listener is not None:
            with closing(listener):
                ports.add(listener.getsockname()[1])

    assert ports == {place.workers_store.master_port for place in places}
    assert all(node.handler.use_agent_store for node in nodes)


def test_a_node_that_waits_can_say_for_whom(job):
    """The others that are there, by their hosts; a spare waits for nobody to come."""
    early = job.some(2, (3, 3))
    assert "" == early[0].handler.describe_wait()  # the store is not reached yet
    joins = [node.join() for node in early]
    await_seats(early[0], ROUND_0, 2)

    said = early[0].handler.describe_wait()
    joins.append(job.node((3, 3)).join())
    placements(joins)
    spare = job.node((3, 3))
    spare.join()
    await_seats(spare, ROUND_1, 1)

    host = socket.gethostname()
    assert f"2 of 3 nodes are here ({host} (2 nodes)); 1 more is needed" == said
    assert "" == early[0].handler.describe_wait()
    assert "a round runs without this node, which waits as a spare" == spare.handler.describe_wait()


def test_a_node_that_needs_no_other_waits_for_none(memory_job):
    """However long it takes to begin."""
    node = memory_job.node((1, 1), store=memory_job.connect())
    go_on = threading.Event()
    add = node.store.add
    node.store.add = lambda *args: go_on.wait(PATIENCE_S) and add(*args)
    joining = node.join()
    with ThreadPoolExecutor(1) as pool:
        described = pool.submit(node.handler.describe_wait)
        go_on.set()
        placements([joining])

    assert ["", ""] == [described.result(PATIENCE_S), node.handler.describe_wait()]


def test_one_of_very_many_asks_only_how_many_there_are(memory_job):
    """Were each to read all records, a thousand nodes would read a million."""
    node = memory_job.node((1000, 1000))
    node.join()
    await_seats(node, ROUND_0, 1)
    node.store.add(ROUND_0.seats, 899)

    assert "900 of 1000 nodes are here; 100 more are needed" == node.handler.describe_wait()


def test_too_few_nodes_in_time_is_an_error_that_counts_them(job):
    """The sentence names the run, who came, and the setting."""
    joins = [job.node((3, 3), join_timeout_s=0.2).join() for _ in range(2)]

    for join in joins:
        with pytest.raises(
            RendezvousTimeoutError,
            match=r"run 'run': [12] of 3 nodes joined within 0\.2 s \(--rdzv-conf join_timeout",
        ):
            join.result(PATIENCE_S)


def test_a_node_that_gave_up_is_not_taken_into_a_round(job):
    """Its seat is empty again: the round waits for another one."""
    with pytest.raises(RendezvousTimeoutError):
        job.node((2, 2), join_timeout_s=0.05).join().result(PATIENCE_S)
    nodes = job.some(2, (2, 2), deputy_s=0.05)

    assert [2, 2] == [place.group_world_size for place in job.rendezvous(nodes)]


def test_a_node_that_shuts_down_while_it_waits_is_not_taken_into_a_round(job):
    """An agent that is stopped before the round began takes its record back."""
    leaver = job.node((2, 2))
    joining = leaver.join()
    await_seats(job.node(), ROUND_0, 1)
    leaver.handler.shutdown()
    nodes = job.some(2, (2, 2), deputy_s=0.05)

    assert [2, 2] == [place.group_world_size for place in job.rendezvous(nodes)]
    with pytest.raises((RendezvousConnectionError, RendezvousClosedError)):
        joining.result(PATIENCE_S)


def test_a_node_that_was_told_other_limits_is_refused(job):
    """The sentence names both, before anybody is disturbed."""
    job.running(2, (2, 2))

    with pytest.raises(
        RendezvousStateError, match="has --nnodes 2, and this node has --nnodes 1:3"
    ):
        job.node((1, 3)).join().result(PATIENCE_S)


def test_a_node_that_was_told_another_budget_is_refused(job):
    """Else one node would give up where another one announces a restart."""
    first = job.node((2, 2), max_restarts=3)
    joining = first.join()
    await_seats(first, ROUND_0, 1)

    with pytest.raises(
        RendezvousStateError, match="has --max-restarts 3, and this node has --max-restarts 1:"
    ):
        job.node((2, 2), max_restarts=1, deputy_s=0.05).join().result(PATIENCE_S)
    assert {2} == {
        place.group_world_size
        for place in placements([job.node((2, 2), max_restarts=3).join(), joining])
    }


def test_a_node_that_was_told_other_limits_leaves_a_forming_round(job):
    """It finds out by itself when it looks why the round isn't sealed."""
    first = job.node((2, 2))
    joining = first.join()
    await_seats(first, ROUND_0, 1)

    with pytest.raises(RendezvousStateError, match="has --nnodes 2, and this node has --nnodes 3:"):
        job.node((3, 3), deputy_s=0.05).join().result(PATIENCE_S)
    assert {2} == {
        place.group_world_size for place in placements([job.node((2, 2)).join(), joining])
    }


def test_two_runs_in_one_store_do_not_meet(job):
    """Keys of a run are out of reach for another, even if its name is made like a key."""
    names = ["a", "a/round/0", "a%2Fround"]
    nodes = [job.node((1, 1), run_id=name) for name in names]

    assert [(1, 0)] * 3 == [
        (place.group_world_size, place.round) for place in job.rendezvous(nodes)
    ]


def test_waiting_nodes_are_counted(job):
    """num_nodes_waiting() counts those that have a seat in the next round."""
    late = job.node((1, 1))
    nodes = job.running(1, (1, 1))
    before = nodes[0].handler.num_nodes_waiting() + late.handler.num_nodes_waiting()
    late.join()
    await_seats(nodes[0], ROUND_1, 1)

    assert (0, 1) == (before, nodes[0].handler.num_nodes_waiting())
