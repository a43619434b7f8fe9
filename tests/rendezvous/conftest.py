"""Stores of each kind, and nodes of jobs over them."""

import itertools
import threading

import pytest
from elrun.rendezvous.stores.etcd.server import EtcdServer
from elrun.rendezvous.stores.memory import MemoryStore
from elrun.rendezvous.stores.server.server import StoreServer
from etcd_kit import EtcdClients
from round_kit import PATIENCE_S, AllGuests, Job, ServerClients, SignedClients


@pytest.fixture
def shown_faults(monkeypatch):
    """Return how to wait for the threads of this test, and which faults Python has shown of them.

    A fault that is shown after the test would be taken for another test's.
    """
    faults = []
    monkeypatch.setattr(threading, "excepthook", lambda shown: faults.append(shown.exc_type))
    before = set(threading.enumerate())

    def await_threads():
        for thread in set(threading.enumerate()) - before:
            thread.join(PATIENCE_S)
        return faults

    yield await_threads
    await_threads()


@pytest.fixture
def memory():
    """Return a store in memory; ``connect`` gives each node its own connection."""
    return MemoryStore()


@pytest.fixture
def server():
    """Return a store server of ours, to which connections lead."""
    server = StoreServer(AllGuests(), "the test's store")
    server.start()
    yield ServerClients(server)
    server.close()


@pytest.fixture(scope="session")
def etcd_server():
    """Return an etcd as it is today: without the v2 API."""
    with EtcdServer(v2=False) as server:
        yield server


@pytest.fixture(scope="session")
def etcd_v2_server():
    """Return an etcd that has the v2 API."""
    with EtcdServer(v2=True) as server:
        yield server


@pytest.fixture(scope="session")
def numbers():
    """Return numbers that no other test gets."""
    return itertools.count()


@pytest.fixture
def etcd_v3(etcd_server, numbers):
    """Return a part of a real etcd, reached over v3."""
    clients = EtcdClients("etcd-v3", etcd_server.get_endpoint(), f"/test-{next(numbers)}/")
    yield clients
    clients.close()


@pytest.fixture
def etcd_v2(etcd_v2_server, numbers):
    """Return a part of a real etcd, reached over v2."""
    clients = EtcdClients("etcd-v2", etcd_v2_server.get_endpoint(), f"/test-{next(numbers)}/")
    yield clients
    clients.close()


@pytest.fixture
def signed(memory):
    """Return a store in memory as those see it who know a secret."""
    return SignedClients(memory)


@pytest.fixture(
    params=[
        "memory",
        "signed",
        "server",
        *(pytest.param(name, marks=pytest.mark.integration) for name in ("etcd_v3", "etcd_v2")),
    ],
    name="connect",
)
def _connect(request):
    """Return what opens a connection to a fresh store, of each kind in turn."""
    return request.getfixturevalue(request.param).connect


@pytest.fixture
def job(connect):
    """Return a maker of nodes over each kind of store."""
    job = Job(connect)
    yield job
    job.close()


@pytest.fixture
def memory_job(memory):
    """Return a maker of nodes over a store in memory."""
    job = Job(memory.connect)
    yield job
    job.close()
