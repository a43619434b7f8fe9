"""A store server that listens at a port of its own, and what tests ask of it."""

import contextlib
import socket
import threading

from elrun.rendezvous.stores.server.client import StoreClient
from elrun.rendezvous.stores.server.dial import shake_hands
from elrun.rendezvous.stores.server.line import Line
from elrun.rendezvous.stores.server.server import StoreServer
from round_kit import HELLO, AllGuests

LONG_S = 30


class Listening:
    """A server that listens at a port of its own."""

    def __init__(self, guests=None, limits=None, entrance=None):
        self.guests = guests or AllGuests()
        self.server = StoreServer(self.guests, "here", limits, entrance=entrance)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.server.start()
        self.server.listen(self.listener)

    def dial(self):
        return socket.create_connection(self.address, LONG_S)

    def welcomed(self):
        connection = self.dial()
        shake_hands(connection, HELLO, LONG_S)
        return connection

    def client(self, patience_s=LONG_S):
        return StoreClient(Line(shake_hands(self.dial(), HELLO, LONG_S), "here", patience_s))

    @contextlib.contextmanager
    def paused(self):
        """Hold the server's thread up, so that it finds all that comes meanwhile at once."""
        held, free = threading.Event(), threading.Event()
        hold = threading.Thread(
            target=self.server._do, args=(lambda: (held.set(), free.wait(LONG_S)),)
        )
        hold.start()
        assert held.wait(LONG_S)
        yield
        free.set()
        hold.join()

    def close(self):
        self.server.close()
        self.listener.close()


def is_closed(connection):
    """Return whether the other side ends the connection; the test's time-out bounds the wait."""
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    connection.close()
    return True


def serves(server):
    client = server.client()
    client.set({"k": b"1"})
    value = client.get(["k"])
    client.close()
    return value == [b"1"]
