"""Connections that are cut at any byte, either way: nothing is lost, and nothing happens twice."""

import contextlib
import itertools
import socket
import threading

import pytest
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.network.ports import PortClaim
from elrun.rendezvous.stores.server.connector import StoreConnector
from elrun.rendezvous.stores.server.guard import Guard
from elrun.rendezvous.stores.signed import Secret
from hypothesis import given, settings
from hypothesis import strategies as st

HERE = "127.0.0.1"
LONG_S = 30
GUARDS = [Guard(), Guard(Secret(b"open sesame"))]
NO_CUT = (None, None)


class CuttingCable:
    """A port that leads to a server's, and cuts each connection after so many bytes.

    Args:
        port: The server's.
        cuts: For each connection, in the order in which they are made: after how many bytes to the
            server, and after how many from it. The first counts from ``arm`` on.
    """

    def __init__(self, port, cuts):
        self.port = port
        self.cuts = iter(cuts)
        self.is_armed = threading.Event()
        self.listener = socket.create_server((HERE, 0))
        self.endpoint = Endpoint(HERE, self.listener.getsockname()[1])
        self.ends = []
        self.threads = []
        self.start(self.accept)

    def start(self, target, *args):
        self.threads.append(threading.Thread(target=target, args=args, daemon=True))
        self.threads[-1].start()

    def accept(self):
        is_first = True
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection((HERE, self.port))
                pair = (client, server)
                self.ends += pair
                for way, cut in zip((pair, pair[::-1]), next(self.cuts, NO_CUT), strict=True):
                    self.start(self.carry, *way, cut, is_first)
                is_first = False

    def carry(self, here, there, cut, is_first):
        with contextlib.suppress(OSError):
            while cut != 0 or (is_first and not self.is_armed.is_set()):
                data = here.recv(1 << 16)
                if not data:
                    break
                if cut is not None and (not is_first or self.is_armed.is_set()):
                    data = data[:cut]
                    cut -= len(data)
                there.sendall(data)
        for end in (here, there):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        for end in self.ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(LONG_S)
        for end in (self.listener, *self.ends):
            end.close()


@pytest.fixture(scope="module", name="hosts")
def _hosts():
    """Return a store for each protection, at a port that others can connect to."""
    hosts = []
    for guard in GUARDS:
        claim = PortClaim.take()
        connect = StoreConnector(Endpoint(HERE, claim.port), True, None, LONG_S, guard=guard)
        hosts.append((connect(threading.Event()).store, claim.port, claim))
    yield hosts
    for host, _, claim in hosts:
        host.close()
        claim.release()


NUMBERS = itertools.count()


def do(store, step, prefix):
    """Carry one step out; return what a node is told."""
    name, key, number = step
    key = f"{prefix}/{key}"
    value = b"%d" % number
    match name:
        case "add":
            return store.add(key, number)
        case "create":
            return store.create(key, value)
        case "replace":
            return store.create(key, value, b"1")
        case "set":
            return store.set({key: value})
        case "get":
            return store.get([key])
        case "wait":
            store.set({key: value})
            return store.wait([key], LONG_S)
        case "exchange":
            return store.exchange({key: value}, [key, f"{prefix}/other"])


class Model:
    """What a store does whose cable is whole."""

    def __init__(self):
        self.values = {}

    def add(self, key, amount):
        self.values[key] = b"%d" % (int(self.values.get(key, b"0")) + amount)
        return int(self.values[key])

    def create(self, key, value, instead_of=b""):
        if self.values.get(key, b"") == instead_of:
            self.values[key] = value
        return self.values.get(key, b"")

    def set(self, values):
        self.values.update(values)

    def get(self, keys):
        return [self.values.get(key) for key in keys]

    def wait(self, keys, _timeout_s):
        return self.get(keys)

    def exchange(self, values, keys):
        self.set(values)
        return self.get(keys)


def told_over(hosts, guard, cuts, steps):
    """Carry steps out over a cable that is cut; return what was told and what stands, for both."""
    host, port, _ = hosts[guard]
    prefix = f"example-{next(NUMBERS)}"
    cable = CuttingCable(port, cuts)
    connect = StoreConnector(cable.endpoint, False, None, LONG_S, guard=GUARDS[guard])
    client = connect(threading.Event()).store
    cable.is_armed.set()
    model = Model()
    try:
        told = [do(client, step, prefix) for step in steps]
    finally:
        client.close()
        cable.close()
    expected = [do(model, step, prefix) for step in steps]
    keys = sorted(model.values)
    return (expected, model.get(keys)), (told, host.get(keys) if keys else [])


STEPS = [
    ("add", "n", 5),
    ("create", "c", 1),
    ("replace", "c", 2),
    ("set", "s", 3),
    ("exchange", "n", 4),
    ("add", "n", 1),
    ("wait", "n", 0),
]


@pytest.mark.integration
@pytest.mark.parametrize("guard", range(2), ids=["plain", "secret"])
@pytest.mark.parametrize("way", range(2), ids=["to the server", "from the server"])
def test_a_cut_at_each_byte_changes_nothing(hosts, guard, way):
    """All seven steps are told and done as over a whole cable, wherever it is cut."""
    for cut in range(0, 800 if guard else 560, 3 if guard else 1):
        cuts = [(cut, None) if way == 0 else (None, cut)]
        expected, found = told_over(hosts, guard, cuts, STEPS)
        assert expected == found, f"cut after {cut} bytes"


lengths = st.one_of(st.none(), st.integers(0, 700))
step = st.tuples(
    st.sampled_from(["add", "create", "replace", "set", "get", "wait", "exchange"]),
    st.sampled_from("ab"),
    st.integers(1, 3),
)


@pytest.mark.integration
@settings(max_examples=120, deadline=None)
@given(
    guard=st.sampled_from(range(2)),
    cuts=st.lists(st.tuples(lengths, lengths), min_size=1, max_size=5),
    steps=st.lists(step, min_size=1, max_size=12),
)
def test_no_history_of_cuts_loses_a_write_or_repeats_one(hosts, guard, cuts, steps):
    """Also where the way back is cut, in the middle of a handshake or of what is repeated."""
    expected, found = told_over(hosts, guard, cuts, steps)

    assert expected == found
