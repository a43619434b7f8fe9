"""Nodes that were told their ranks, over real sockets at one port of this host."""

import socket
import threading

import pytest
from elrun.rendezvous.api.handler import Verdict, VerdictKind
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.backends.registry import get_rendezvous_handler
from elrun.rendezvous.errors import (
    RendezvousConnectionError,
    RendezvousStateError,
)
from elrun.rendezvous.stores.signed import Secret
from round_kit import break_connection, silence
from static_kit import LONG_S, join, joining

FAST = {"heartbeat_interval": 0.05, "heartbeat_patience": 0.2}


def meet(handlers):
    return [each.result(LONG_S).placement for each in [join(handler) for handler in handlers]]


def ranks(places):
    return [(place.group_rank, place.first_rank, place.world_size) for place in places]


def die(handler):
    """Break a node's connection, as the kernel does when its process is killed."""
    silence(handler)
    store = handler._resources.store(handler._machine.session.connection.store)
    store._line._reader.link.shut_down()


def await_verdict(handler):
    changed = threading.Event()
    handler.subscribe(changed.set)
    while (verdict := handler.verdict()) is None:
        assert changed.wait(LONG_S)
        changed.clear()
    return verdict


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
        if host not in {"trainer-0.svc", b"trainer-0.svc"}:
            return known(host, *args, **options)
        lookups.append(host)
        if len(lookups) < 4:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return known("127.0.0.1", *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    handlers = nodes.some(2, host="trainer-0.svc")

    assert [(0, 0, 2), (1, 1, 2)] == ranks(meet(handlers))


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
