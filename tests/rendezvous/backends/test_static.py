"""Nodes that were told their ranks, over real sockets at one port of this host."""

import contextlib
import os
import socket
import threading
from concurrent.futures import Future

import pytest
from elrun.rendezvous.api.handler import NodeProfile, Verdict, VerdictKind
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.backends.registry import get_rendezvous_handler
from elrun.rendezvous.backends.static import MasterNode, StaticRendezvous
from elrun.rendezvous.errors import (
    RendezvousConnectionError,
    RendezvousStateError,
    RendezvousTimeoutError,
)
from elrun.rendezvous.network.ports import PortClaim
from elrun.rendezvous.protocol.timing import Timing
from elrun.rendezvous.stores.server.dial import Target
from elrun.rendezvous.stores.server.hello import Hello
from elrun.rendezvous.stores.signed import Secret
from round_kit import break_connection, silence

LONG_S = 30
FAST = {"heartbeat_interval": 0.05, "heartbeat_patience": 0.2}
FASTER = {"heartbeat_interval": 0.01, "heartbeat_patience": 0.05}


class Nodes:
    """Makes nodes of one job at one port."""

    def __init__(self, port):
        self.port = port
        self.handlers = []

    def node(self, rank, nodes=2, workers=1, role="train", run="run", host="127.0.0.1", **config):
        endpoint = f"{host}:{self.port}"
        handler = get_rendezvous_handler(
            RendezvousParameters("static", endpoint, run, nodes, nodes, rank=rank, **config)
        )
        handler.describe(NodeProfile(workers, role, 3))
        self.handlers.append(handler)
        return handler

    def some(self, count, **config):
        return [self.node(rank, count, **config) for rank in range(count)]

    def close(self):
        for handler in reversed(self.handlers):
            handler.shutdown()


@pytest.fixture(name="nodes")
def _nodes():
    claim = PortClaim.take()
    nodes = Nodes(claim.port)
    yield nodes
    nodes.close()
    claim.release()


def join(handler):
    future = Future()

    def run():
        try:
            future.set_result(handler.next_rendezvous())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def meet(handlers):
    return [each.result(LONG_S).placement for each in [join(handler) for handler in handlers]]


def ranks(places):
    return [(place.group_rank, place.first_rank, place.world_size) for place in places]


def die(handler):
    """Break a node's connection, as the kernel does when its process is killed."""
    silence(handler)
    store = handler._resources.store(handler._machine.connection.store)
    store._line._link.shut_down()


@contextlib.contextmanager
def another_program(port):
    """Listen there, and hang up on whoever connects."""
    with socket.create_server(("", port)) as listener:

        def hang_up():
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        yield
        listener.shutdown(socket.SHUT_RDWR)


def await_verdict(handler):
    changed = threading.Event()
    handler.subscribe(changed.set)
    while (verdict := handler.verdict()) is None:
        assert changed.wait(LONG_S)
        changed.clear()
    return verdict


def joining(handler):
    """Return the join of a node, once it waits for others."""
    future = join(handler)
    while "missing" not in handler.describe_wait():
        assert not future.done(), future.result()
    return future


def test_ranks_follow_the_nodes_whatever_each_brings(nodes):
    """With other numbers of workers, whichever node comes first."""
    brings = [1, 2, 3]
    handlers = [nodes.node(rank, 3, workers) for rank, workers in enumerate(brings)]

    places = meet(reversed(handlers))

    assert [(2, 3, 6), (1, 1, 6), (0, 0, 6)] == ranks(places)


def test_roles_have_ranks_of_their_own(nodes):
    """As under torchrun: within a role, by node rank."""
    handlers = [
        nodes.node(rank, 3, workers, role)
        for rank, (workers, role) in enumerate([(2, "a"), (1, "b"), (3, "a")])
    ]

    assert [(0, 5), (0, 1), (2, 5)] == [
        (place.first_role_rank, place.role_world_size) for place in meet(handlers)
    ]


def test_workers_meet_where_the_user_said_in_every_round(nodes):
    """The other nodes know no other place."""
    handlers = nodes.some(2)
    for _ in range(2):
        places = meet(handlers)
        handlers[1].conclude(Verdict(VerdictKind.WORKER_FAILED, 1))

        assert [("127.0.0.1", nodes.port)] * 2 == [tuple(place.workers_store) for place in places]


def test_the_port_is_the_workers_while_a_round_runs(nodes):
    """Rank 0's node listens for them if it is asked to; else rank 0 may."""
    handlers = nodes.some(2)
    for _ in range(3):
        meet(handlers)
        with socket.create_server(("127.0.0.1", nodes.port)):
            handlers[0].conclude(Verdict(VerdictKind.WORKER_FAILED, 0))
    for _ in range(3):
        meet(handlers)
        listener, nothing = (handler.workers_listener() for handler in handlers)
        with listener, socket.create_connection(("127.0.0.1", nodes.port), LONG_S):
            listener.setblocking(True)
            accepted, _ = listener.accept()
            accepted.close()
        handlers[0].conclude(Verdict(VerdictKind.WORKER_FAILED, 0))

        assert nothing is None
    assert [True, True] == [handler.use_agent_store for handler in handlers]


def test_a_failure_reaches_every_node_and_costs_one_restart(nodes):
    """The budget is the job's."""
    handlers = nodes.some(3)
    meet(handlers)
    handlers[2].conclude(Verdict(VerdictKind.WORKER_FAILED, 2, "rank 2 failed"))

    assert ["rank 2 failed"] * 3 == [await_verdict(each).reason for each in handlers]
    assert [1] * 3 == [place.restart_count for place in meet(handlers)]


def test_a_name_that_appears_late_is_asked_again(nodes, monkeypatch):
    """A pod's name is known some seconds after the pod."""
    lookups = []
    known = socket.getaddrinfo

    def getaddrinfo(host, *args, **options):
        if host != "trainer-0.svc":
            return known(host, *args, **options)
        lookups.append(host)
        if len(lookups) < 4:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return known("127.0.0.1", *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    handlers = nodes.some(2, host="trainer-0.svc")

    assert [(0, 0, 2), (1, 1, 2)] == ranks(meet(handlers))


def test_a_node_that_never_comes_is_named(nodes):
    """By its rank, on whichever node gives up first."""
    joining(nodes.node(0, 4))

    with pytest.raises(RendezvousTimeoutError, match="2 of 4 .*node ranks 1 and 3 are missing"):
        nodes.node(2, 4, join_timeout=0.3).next_rendezvous()


def test_who_is_missing_is_told_while_they_are_waited_for(nodes):
    """By rank."""
    handler = nodes.node(0, 3)
    joining(handler)

    assert handler.describe_wait().endswith("); node ranks 1 and 2 are missing")


def test_a_missing_node_rank_0_is_named(nodes):
    """With the place where it should be, and the reason."""
    with pytest.raises(
        RendezvousConnectionError,
        match=f"node rank 0 was not reached at 127.0.0.1:{nodes.port} within 0.1 s .*refused",
    ):
        nodes.node(1, join_timeout=0.1).next_rendezvous()


def test_another_program_at_the_master_s_port_is_told(nodes):
    """A torchrun, or whatever it is."""
    with (
        another_program(nodes.port),
        pytest.raises(
            RendezvousConnectionError, match="another program answers there.*must run elrun"
        ),
    ):
        nodes.node(1, join_timeout=0.2).next_rendezvous()


def test_a_held_port_is_refused_with_its_holder(nodes):
    """At once, by node rank 0."""
    with (
        another_program(nodes.port),
        pytest.raises(RendezvousConnectionError, match=r"held by .* \(pid \d+\).*--master-port"),
    ):
        nodes.node(0).next_rendezvous()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"rank": 1, **FASTER}, "two nodes have --node-rank 1"),
        ({"rank": 2, "nodes": 4}, r"was told --nnodes 3, and node rank 2 .* --nnodes 4"),
        ({"rank": 2, "run": "x"}, "belongs to run 'run', and node rank 2 .* to run 'x'"),
    ],
)
def test_a_node_that_does_not_fit_is_refused(nodes, options, match):
    """By name; the others go on waiting for the right one."""
    handlers = [nodes.node(rank, 3) for rank in (0, 1)]
    joins = [join(handler) for handler in handlers]
    while "node rank 2 is missing" not in handlers[0].describe_wait():
        assert not joins[0].done()

    with pytest.raises(RendezvousStateError, match=match):
        nodes.node(**{"nodes": 3, **options}).next_rendezvous()
    last = nodes.node(2, 3).next_rendezvous().placement
    assert [0, 1, 2] == [
        place.group_rank for place in [*(each.result(LONG_S).placement for each in joins), last]
    ]


def test_two_nodes_of_rank_0_on_one_host_are_told(nodes):
    """The port says it: the first one's host and process are in the one sentence."""
    joining(nodes.node(0))

    with pytest.raises(RendezvousStateError) as caught:
        nodes.node(0).next_rendezvous()
    assert str(caught.value).startswith("two nodes have --node-rank 0, both on ")
    assert str(caught.value).endswith(f" (the other one is pid {os.getpid()})")


def test_two_nodes_of_rank_0_on_two_hosts_are_told(nodes):
    """The master's address leads one of them to the other, which goes on."""
    first = nodes.node(0)
    join_of_first = joining(first)
    params = RendezvousParameters("static", "", "run", 2, 2, rank=0)
    me, timing = (
        Hello("run", "another host", node_rank=0, nodes=2),
        Timing(heartbeat_s=0.01, patience_s=0.05),
    )
    elsewhere = MasterNode(
        Target(first._endpoint), me, timing, lambda _: socket.create_server(("", 0))
    )
    second = StaticRendezvous(params, first._endpoint, elsewhere, timing)
    nodes.handlers.append(second)

    with pytest.raises(RendezvousStateError, match="--node-rank 0, on another host and on"):
        second.next_rendezvous()
    assert not join_of_first.done()


def test_nodes_with_a_secret_meet_and_no_other_node_does(nodes):
    """Node rank 0 proves it to the others, and they to it."""
    ours, theirs = Secret(b"open sesame"), Secret(b"please")
    first = nodes.node(0, secret=ours)
    join_of_first = joining(first)
    for wrong in ({"secret": theirs}, {}):
        with pytest.raises(RendezvousStateError, match="secret"):
            nodes.node(1, **wrong).next_rendezvous()
    second = nodes.node(1, secret=ours).next_rendezvous()

    assert [0, 1] == [join_of_first.result(LONG_S).rank, second.rank]


def test_a_lost_node_is_noticed_and_may_come_back(nodes):
    """With its rank, and at no cost."""
    first, second, third = nodes.some(3, **FAST)
    meet([first, second, third])
    die(second)
    verdicts = [await_verdict(each) for each in (first, third)]
    back = nodes.node(1, 3, **FAST)

    assert [(VerdictKind.NODE_LOST, (1,))] * 2 == [(each.kind, each.lost) for each in verdicts]
    places = meet([first, back, third])
    assert [(0, 0, 3), (1, 1, 3), (2, 2, 3)] == ranks(places)
    assert [0, 0, 0] == [place.restart_count for place in places]


def test_a_killed_node_is_missed_at_once(nodes):
    """Its kernel ends the connection; a sign of life would be waited for longer."""
    handlers = nodes.some(3, heartbeat_interval=60, heartbeat_patience=240)
    meet(handlers)
    die(handlers[1])

    for verdict in (await_verdict(handlers[0]), await_verdict(handlers[2])):
        assert (VerdictKind.NODE_LOST, (1,)) == (verdict.kind, verdict.lost)
        assert "(node rank 1) is gone: its agent's connection has ended" in verdict.reason


def test_a_node_that_has_succeeded_may_leave(nodes):
    """Nobody needs it any more: the others go on to their own end."""
    handlers = nodes.some(3, **FAST)
    meet(handlers)
    handlers[1].arrive()
    handlers[1].shutdown()
    handlers[0].arrive()
    assert handlers[0].verdict() is None
    handlers[2].arrive()

    assert VerdictKind.DONE is await_verdict(handlers[0]).kind


def test_a_node_that_comes_back_while_the_round_runs_waits_for_its_end(nodes):
    """The workers' store is at the port then."""
    first, second = nodes.some(2, **FAST)
    meet([first, second])
    with first.workers_listener():
        die(second)
        back = join(nodes.node(1, **FAST))
        await_verdict(first)

    assert [(0, 0, 2), (1, 1, 2)] == ranks([*meet([first]), back.result(LONG_S).placement])


def test_a_lost_master_ends_the_others(nodes):
    """It holds what they meet by."""
    first, second = nodes.some(2)
    meet([first, second])
    break_connection(first)

    with pytest.raises(RendezvousConnectionError, match=f"127.0.0.1:{nodes.port} was lost"):
        await_verdict(second)


def test_a_secret_keeps_those_out_who_do_not_know_it(nodes, tmp_path):
    """As over any other store."""
    files = [tmp_path / name for name in "ab"]
    for file in files:
        file.write_text(file.name)
    joins = [join(nodes.node(rank, secret_file=str(files[0]))) for rank in range(1)]

    with pytest.raises(RendezvousStateError, match="another secret"):
        nodes.node(1, secret_file=str(files[1])).next_rendezvous()
    place = nodes.node(1, secret_file=str(files[0])).next_rendezvous().placement
    assert (0, 1) == (joins[0].result(LONG_S).placement.group_rank, place.group_rank)


def test_the_port_of_several_nodes_is_torch_s_by_default():
    """29500 is what torchrun's users expect."""
    handler = get_rendezvous_handler(
        RendezvousParameters("static", "node0", "run", 2, 2, rank=1, join_timeout=0)
    )
    with pytest.raises(RendezvousConnectionError, match="not reached at node0:29500"):
        handler.next_rendezvous()


def test_a_setting_that_there_is_not_is_told(nodes, caplog):
    """As with the other backends of several nodes."""
    nodes.node(0, join_timeot=5)

    assert "did you mean join_timeout?" in caplog.text


def test_many_nodes_meet(nodes):
    """None of them is left out, in whatever order they come."""
    handlers = nodes.some(40)

    assert list(range(40)) == [place.group_rank for place in meet(handlers)]
