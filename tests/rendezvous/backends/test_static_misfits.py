"""Nodes of a static job that do not meet: missing, doubled, misfit, or kept out of their port."""

import contextlib
import os
import socket
import threading

import pytest
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.backends.static import MasterNode, StaticRendezvous
from elrun.rendezvous.errors import (
    PortTakenError,
    RendezvousConnectionError,
    RendezvousStateError,
    RendezvousTimeoutError,
)
from elrun.rendezvous.protocol.timing import Timing
from elrun.rendezvous.stores.server.dial import Target
from elrun.rendezvous.stores.server.hello import Hello
from static_kit import LONG_S, join, joining

FASTER = {"heartbeat_interval": 0.01, "heartbeat_patience": 0.05}


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
        pytest.raises(PortTakenError, match=r"the nodes can.t meet at .* held by .* \(pid \d+\)$"),
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
