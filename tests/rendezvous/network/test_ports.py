"""Ports for workers' stores, which no other elrun on this machine may choose meanwhile."""

import contextlib
import errno
import os
import resource
import socket
import subprocess
import sys

import pytest
from elrun.rendezvous.errors import RendezvousError
from elrun.rendezvous.network.ports import PortClaim, free_port, listen_at

CLAIM = """
import sys
from elrun.rendezvous.errors import RendezvousError
from elrun.rendezvous.network.ports import PortClaim
try:
    print(PortClaim.take([int(sys.argv[1])]).port)
except RendezvousError as error:
    print(error)
"""


@pytest.fixture(name="claim")
def _claim():
    claim = PortClaim.take()
    yield claim
    claim.release()


def test_a_claimed_port_can_be_bound(claim):
    """The worker that hosts the store needs it, on every interface."""
    with socket.create_server(("", claim.port)) as server:
        assert claim.port == server.getsockname()[1]


def test_a_claimed_port_is_none_that_the_kernel_gives_out(claim):
    """Outgoing connections, which take ports by chance, can't take this one."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        low, high = map(int, file.read().split())

    assert not low <= claim.port <= high


def test_a_claim_is_not_given_twice(claim):
    """Within one process, the next candidate is taken."""
    free = PortClaim.take()
    free.release()
    other = PortClaim.take([claim.port, free.port])
    other.release()

    assert free.port == other.port


@pytest.mark.integration
def test_a_claim_holds_against_other_processes(claim):
    """Two jobs on one host never choose the same port."""
    printed = subprocess.run(
        [sys.executable, "-c", CLAIM, str(claim.port)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout

    assert "no port is free for the workers' store: all ports are in use\n" == printed


def test_a_released_port_may_be_claimed_again(claim):
    """Releasing is the end of the claim; twice does no harm."""
    claim.release()
    claim.release()
    again = PortClaim.take([claim.port])
    again.release()

    assert claim.port == again.port


def test_a_port_that_is_in_use_is_not_claimed(claim):
    """A program that is no elrun hangs out no sign, but it listens."""
    port = claim.port
    claim.release()
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(RendezvousError, match="no port is free"),
    ):
        PortClaim.take([port])


def test_claims_differ():
    """A hundred at once are a hundred ports."""
    claims = [PortClaim.take() for _ in range(100)]
    ports = {claim.port for claim in claims}
    for claim in claims:
        claim.release()

    assert 100 == len(ports)


def test_a_free_port_can_be_bound():
    """Nobody listens on it now."""
    with socket.create_server(("", free_port())) as server:
        assert server.getsockname()[1] > 0


def test_a_claim_listens_when_it_is_asked_to(claim):
    """Until then nobody does, and a worker may; afterwards connections are taken, v4 and v6."""
    with socket.socket() as early:
        refused = early.connect_ex(("127.0.0.1", claim.port))
    with (
        contextlib.closing(claim.listen()),
        socket.create_connection(("127.0.0.1", claim.port)) as late,
    ):
        port = late.getpeername()[1]

    assert (errno.ECONNREFUSED, claim.port) == (refused, port)


def test_a_listener_takes_as_many_connections_as_the_kernel_lets_it(claim):
    """Thousands of workers connect before anybody accepts."""
    with contextlib.closing(claim.listen()), contextlib.ExitStack() as clients:
        for _ in range(500):
            clients.enter_context(socket.create_connection(("127.0.0.1", claim.port), 5))


def test_a_port_that_was_taken_after_the_claim_is_named_with_its_holder(claim):
    """A program that is no elrun knows no claims."""
    with (
        socket.create_server(("", claim.port)),
        pytest.raises(
            RendezvousError, match=f"{claim.port} .* held by .* \\(pid {os.getpid()}\\)"
        ) as caught,
    ):
        claim.listen()

    # elrun has chosen the port: nobody is to be told to give another one.
    assert RendezvousError is caught.type


@pytest.fixture(name="no_more_files")
def _no_more_files():
    """Give this process one more file descriptor, and no others."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.usefixtures("no_more_files")
def test_where_not_one_socket_can_be_opened_no_port_is_claimed():
    """The first socket that a claim takes is refused for the same reason as the next one."""
    with socket.socket(socket.AF_UNIX), pytest.raises(RendezvousError) as of_claiming:
        PortClaim.take()

    assert "no port can be had for the workers' store: Too many open files" == str(
        of_claiming.value
    )


@pytest.mark.usefixtures("no_more_files")
def test_a_port_that_nobody_can_have_is_refused_for_the_true_reason():
    """It is not said that this host has no network, nor that all ports are in use."""
    with socket.socket(socket.AF_UNIX), pytest.raises(RendezvousError) as of_listening:
        listen_at(0)
    with pytest.raises(RendezvousError) as of_claiming:
        PortClaim.take()

    assert "port 0 of this host can't be had: Too many open files" == str(of_listening.value)
    assert "no port can be had for the workers' store: Too many open files" == str(
        of_claiming.value
    )
