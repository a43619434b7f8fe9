"""Whole rounds: nodes as threads, over every kind of store."""

import queue
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from elrun.rendezvous.api.handler import Verdict, VerdictKind
from elrun.rendezvous.errors import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousGracefulExitError,
    RendezvousStateError,
    RendezvousTimeoutError,
)
from elrun.rendezvous.protocol.keys import RunKeys
from round_kit import PATIENCE_S, failed, placements

ROUND_0, ROUND_1 = (RunKeys("run").round(number) for number in (0, 1))


def kinds(nodes):
    return [node.await_verdict().kind for node in nodes]


def await_seats(node, keys, count):
    """Return once so many nodes have written their records."""
    assert node.store.wait([keys.node(seat) for seat in range(count)], PATIENCE_S) is not None


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
    first, second = memory_job.running(2, (1, 3), last_call_s=0.2)
    first.handler.arrive()
    joining = memory_job.node((1, 3)).join()
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
    while not caplog.records:
        assert not nodes[0].store.wait(["no such key"], 0.01)
    nodes[0].handler.conclude(failed())
    kinds(nodes)
    memory_job.rendezvous(nodes)
    here = socket.gethostname()

    (record,) = (each for each in caplog.records if each.levelname == "WARNING")
    assert f"run 'run' needs no further node now ({here} (2 nodes))" in record.getMessage()


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


def test_shutdown_may_be_called_at_any_time(job):
    """Before the first round, twice, and then no round follows."""
    node = job.node()

    assert [True, True] == [node.handler.shutdown(), node.handler.shutdown()]
    with pytest.raises(RendezvousClosedError):
        node.join().result(PATIENCE_S)


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
