"""Stores of each kind, and nodes of jobs over them."""

import threading

import pytest
from elrun.rendezvous.addresses import parse_endpoint
from elrun.rendezvous.c10d import Reach
from elrun.rendezvous.memory import MemoryStore
from round_kit import Job, TcpClients


@pytest.fixture
def memory():
    """Return a store in memory; ``connect`` gives each node its own connection."""
    return MemoryStore()


@pytest.fixture
def tcp():
    """Return a real TCPStore's host."""
    connection = Reach(parse_endpoint("127.0.0.1:0"), None, None, 10)(threading.Event())
    yield connection.store
    connection.store.close()


@pytest.fixture(
    params=["memory", pytest.param("tcp", marks=pytest.mark.integration)], name="connect"
)
def _connect(request):
    """Return what opens a connection to a fresh store, of each kind in turn."""
    store = request.getfixturevalue(request.param)
    return store.connect if request.param == "memory" else TcpClients(store).connect


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
