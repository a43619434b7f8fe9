"""Connections that end in the middle of a frame: each after a number of bytes."""

import contextlib
import random
import threading

import pytest
from cable_kit import Cable, shut
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.stores.server.connector import StoreConnector
from elrun.rendezvous.stores.server.guard import Guard
from elrun.rendezvous.stores.signed import Secret

pytestmark = pytest.mark.integration

HERE = "127.0.0.1"
LONG_S = 30


class FrayedCable(Cable):
    """Ends each connection after as many bytes, both ways together, as its place in a row says.

    Args:
        port: Where it leads.
        lengths: One number for each connection; those after the last one hold.
    """

    def __init__(self, port, lengths):
        self.lengths = iter(lengths)
        super().__init__(port)

    def join(self, end, other):
        self.ends += [end, other]
        left = [next(self.lengths, None)]
        lock = threading.Lock()
        for here, there in ((end, other), (other, end)):
            way = (here, there, left, lock)
            threading.Thread(target=self.copy_some, args=way, daemon=True).start()

    @staticmethod
    def copy_some(here, there, left, lock):
        with contextlib.suppress(OSError):
            while data := here.recv(1 << 16):
                with lock:
                    part = data if left[0] is None else data[: left[0]]
                    left[0] = None if left[0] is None else left[0] - len(part)
                there.sendall(part)
                if len(part) < len(data):
                    break
        shut(here, there)


@pytest.fixture(name="guard", params=["open", "secret"])
def _guard(request):
    return Guard(Secret(b"open sesame") if request.param == "secret" else None)


@pytest.fixture(name="host")
def _host(guard, port):
    connect = StoreConnector(Endpoint(HERE, port), True, None, LONG_S, guard=guard)
    host = connect(threading.Event()).store
    host.port = port
    yield host
    host.close()


@pytest.mark.parametrize("seed", range(3))
def test_no_request_is_lost_or_happens_twice(host, guard, seed):
    """Whether the hello, a request or an answer is cut, and whether its part was heard."""
    lengths = random.Random(seed).choices(range(1, 1200), k=20)
    cable = FrayedCable(host.port, [None, *lengths])
    connect = StoreConnector(cable.endpoint, False, None, LONG_S, guard=guard)
    guest = connect(threading.Event()).store
    cable.break_off()

    counts = []
    for number in range(1, 61):
        counts.append(guest.add("n", 1))
        guest.set({"k": b"%d" % number})
        assert [b"%d" % number] == guest.get(["k"])
        assert guest.wait(["never"], 0) is None
    guest.close()
    cable.close()

    assert (list(range(1, 61)), 60) == (counts, host.add("n", 0))
