"""The rendezvous of one node."""

import threading
from contextlib import closing

import pytest
from elrun.rendezvous.api.handler import NodeProfile, Verdict, VerdictKind
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.backends.registry import get_rendezvous_handler
from elrun.rendezvous.errors import RendezvousClosedError


def handler(backend="standalone", endpoint="", nodes=(1, 1), workers=2, local_addr=None, **config):
    made = get_rendezvous_handler(
        RendezvousParameters(backend, endpoint, "run", *nodes, local_addr, **config)
    )
    made.describe(NodeProfile(workers, "train"))
    return made


@pytest.fixture(name="alone")
def _alone():
    alone = handler()
    yield alone
    alone.shutdown()


def test_one_node_is_placed_at_once(alone):
    """All ranks are its own."""
    place = alone.next_rendezvous().placement

    assert (0, 0, 1, 0, 2, 0, 2, 0) == (
        place.round,
        place.group_rank,
        place.group_world_size,
        place.first_rank,
        place.world_size,
        place.first_role_rank,
        place.role_world_size,
        place.restart_count,
    )


def test_every_round_of_one_node_has_a_port_of_its_own(alone):
    """A new attempt never meets at an old store."""
    infos = [alone.next_rendezvous().bootstrap_store_info for _ in range(5)]

    assert ({"127.0.0.1"}, 5) == (
        {info.master_addr for info in infos},
        len({info.master_port for info in infos}),
    )


def test_two_jobs_on_one_host_have_different_ports():
    """However often they start, side by side."""
    jobs = [handler() for _ in range(20)]
    ports = {job.next_rendezvous().bootstrap_store_info.master_port for job in jobs}
    for job in jobs:
        job.shutdown()

    assert 20 == len(ports)


def test_the_local_address_is_honoured():
    """--local-addr is where the workers meet."""
    alone = handler(local_addr="10.1.2.3")
    info = alone.next_rendezvous()
    alone.shutdown()

    assert "10.1.2.3" == info.bootstrap_store_info.master_addr


def test_failures_are_counted_as_restarts(alone):
    """Only a failed worker spends one."""
    counts = []
    for kind in [VerdictKind.WORKER_FAILED, VerdictKind.NODE_WAITING, VerdictKind.WORKER_FAILED]:
        counts.append(alone.next_rendezvous().placement.restart_count)
        alone.conclude(Verdict(kind))

    assert ([0, 1, 1], 2) == (counts, alone.next_rendezvous().placement.restart_count)


def test_the_first_verdict_stands(alone):
    """As it would with several nodes."""
    alone.next_rendezvous()
    first = Verdict(VerdictKind.WORKER_FAILED, reason="first")

    assert (None, first, first, first) == (
        alone.verdict(),
        alone.conclude(first),
        alone.conclude(Verdict(VerdictKind.DONE)),
        alone.verdict(),
    )


def test_a_verdict_wakes_the_agent(alone):
    """Subscribers are called, as with any rounds."""
    woken = threading.Event()
    alone.subscribe(woken.set)
    alone.next_rendezvous()
    alone.conclude(Verdict(VerdictKind.WORKER_FAILED))

    assert woken.is_set()


def test_arriving_ends_the_run(alone):
    """One node that is done is all nodes."""
    alone.next_rendezvous()
    alone.arrive()

    assert (VerdictKind.DONE, True) == (alone.verdict().kind, alone.is_closed())
    with pytest.raises(RendezvousClosedError):
        alone.next_rendezvous()


@pytest.mark.parametrize("end", ["set_closed", "shutdown"])
def test_a_closed_run_has_no_next_round(alone, end):
    """Neither after set_closed() nor after shutdown()."""
    getattr(alone, end)()

    assert alone.is_closed()
    with pytest.raises(RendezvousClosedError):
        alone.next_rendezvous()


def test_the_outcome_of_this_node_is_collected(alone):
    """Nobody else tells anything."""
    alone.next_rendezvous()
    alone.publish(b"mine")

    assert [b"mine"] == alone.collect(0)


def test_each_round_has_a_store_of_its_own(alone):
    """What one attempt's agent wrote, the next one doesn't find."""
    first = alone.next_rendezvous().store
    first.set("k", "v")

    assert (True, False) == (first.check(["k"]), alone.next_rendezvous().store.check(["k"]))


def test_one_static_node_without_a_port_takes_a_new_one_each_time():
    """There is nobody to agree with."""
    static = handler("static", "127.0.0.1", (1, 1))
    ports = {static.next_rendezvous().bootstrap_store_info.master_port for _ in range(3)}
    static.shutdown()

    assert 3 == len(ports)


def test_the_workers_listener_is_where_the_workers_meet(alone):
    """In each round anew; from then on the workers are clients, rank 0 too."""
    told = [alone.use_agent_store]
    for _ in range(2):
        port = alone.next_rendezvous().bootstrap_store_info.master_port
        with closing(alone.workers_listener()) as listener:
            assert port == listener.getsockname()[1]
    told.append(alone.use_agent_store)

    assert [False, True] == told


@pytest.mark.parametrize(
    ("backend", "endpoint", "nodes", "config", "match"),
    [
        ("standalone", "", (1, 2), {}, "standalone is for one node, not for 2"),
        ("static", "h:1", (1, 2), {}, "a fixed number of nodes, not 1:2"),
        ("static", "h:1", (2, 2), {"rank": 2}, "--node-rank 2: give a rank from 0 to 1"),
        ("static", "h:1", (2, 2), {"rank": -1}, "--node-rank -1"),
        ("static", "h:1", (2, 2), {"rank": "one"}, "rank=one"),
        ("static", "", (2, 2), {"rank": 0}, "needs --master-addr"),
        ("static", "h:99999", (2, 2), {"rank": 0}, "'99999' is no port"),
    ],
)
def test_what_does_not_fit_is_refused(backend, endpoint, nodes, config, match):
    """Before anything starts, with a sentence."""
    with pytest.raises(ValueError, match=match):
        handler(backend, endpoint, nodes, **config)


@pytest.mark.parametrize("backend", ["standalone", "static"])
def test_a_secret_in_words_is_refused_though_nothing_is_signed(backend):
    """Every user of the host can read it, whichever backend it was meant for."""
    with pytest.raises(ValueError, match="--rdzv-conf secret=...: every user of this host"):
        handler(backend, secret="abc")


@pytest.mark.parametrize("backend", ["standalone", "static"])
def test_a_secret_that_is_not_needed_is_not_looked_for(backend):
    """A site may name the same file for all its jobs."""
    handler(backend, secret_file="/nowhere").shutdown()
