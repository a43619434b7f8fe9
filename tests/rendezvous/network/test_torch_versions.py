"""What differs between versions of torch for the rendezvous."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.network.ports import PortClaim
from elrun.rendezvous.stores.tcp import reach as c10d
from elrun.rendezvous.stores.tcp.reach import Reach
from elrun.rendezvous.stores.tcp.tcp_store import takes_listening_socket


@pytest.mark.parametrize("version", ["2.4.1+cu121", "2.7.1+cpu", "2.7.0a0+git123"])
def test_an_old_torch_does_not_serve_at_a_listening_socket(version):
    """Its server of libuv refuses one."""
    assert not takes_listening_socket(version)


@pytest.mark.parametrize("version", ["2.8.0", "2.10.0+cpu", "2.15.0a0+git123", "3.0.0"])
def test_a_newer_torch_serves_at_a_listening_socket(version):
    """So nobody else can take the port meanwhile."""
    assert takes_listening_socket(version)


@pytest.fixture(name="old_torch")
def _old_torch(monkeypatch):
    """Let torch listen by itself, as a version has to that takes no listening socket."""
    monkeypatch.setattr(c10d, "takes_listening_socket", lambda _: False)


@pytest.mark.integration
@pytest.mark.usefixtures("old_torch")
def test_agents_that_come_at_once_find_one_host_on_an_old_torch():
    """Several may find the port free, as it is for a moment; the others join who got it."""
    claim = PortClaim.take()
    reaches = [Reach(Endpoint("127.0.0.1", claim.port), None, None, 60) for _ in range(6)]
    with ThreadPoolExecutor(len(reaches)) as pool:
        connections = list(pool.map(lambda reach: reach(threading.Event()), reaches))
    connections[0].store.set({"k": b"v"})
    answers = [each.store.get(["k"]) for each in connections]
    for each in sorted(connections, key=lambda each: each.is_host):
        each.store.close()
    claim.release()

    assert 1 == sum(each.is_host for each in connections)
    assert [[b"v"]] * 6 == answers


@pytest.mark.integration
@pytest.mark.usefixtures("old_torch")
def test_port_0_is_any_free_port_on_an_old_torch():
    """A node that meets nobody needs no port of its own choice."""
    connection = Reach(Endpoint("127.0.0.1", 0), None, None, 60)(threading.Event())
    connection.store.set({"k": b"v"})
    answer = connection.store.get(["k"])
    connection.store.close()

    assert (True, [b"v"]) == (connection.is_host, answer)
