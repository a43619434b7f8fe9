"""Clients with a certificate that change the keys of TLS without end."""

import _ssl
import ctypes
import fcntl
import itertools
import selectors
import socket
import termios
import threading

from certificate_kit import needs_openssl
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.stores.server.connections import Connections
from elrun.rendezvous.stores.server.connector import StoreConnector
from elrun.rendezvous.stores.server.entrance import Entrance
from elrun.rendezvous.stores.server.guests import ClientLimits
from elrun.rendezvous.stores.server.hello import write_hello
from round_kit import AllGuests
from tls_kit import HERE, LONG_S, ME, guard

pytestmark = needs_openssl

LIBRARY = ctypes.CDLL(_ssl.__file__)  # Python's ssl has no function that changes keys
READ = selectors.EVENT_READ
PEM = 1
WANT_ANSWER = 1


def function(name, result=ctypes.c_int):
    found = getattr(LIBRARY, name)
    found.restype = result
    return found


class KeyChanger:
    """A client that OpenSSL itself drives over a socket that blocks."""

    def __init__(self, connection, config):
        pointer = ctypes.c_void_p
        method = pointer(function("TLS_client_method", pointer)())
        context = pointer(function("SSL_CTX_new", pointer)(method))
        cert, key = config["cert"].encode(), config["key"].encode()
        assert 1 == function("SSL_CTX_use_certificate_file")(context, cert, PEM)
        assert 1 == function("SSL_CTX_use_PrivateKey_file")(context, key, PEM)
        connection.settimeout(None)
        self._tls = pointer(function("SSL_new", pointer)(context))
        function("SSL_set_fd")(self._tls, connection.fileno())
        assert 1 == function("SSL_connect")(self._tls)

    def write(self, data):
        return function("SSL_write")(self._tls, data, len(data))

    def change_keys(self):
        """Send one change, which asks the server for one; return whether the kernel took it."""
        begun = function("SSL_key_update")(self._tls, WANT_ANSWER)
        return begun == 1 == function("SSL_do_handshake")(self._tls)


def test_nodes_are_served_while_others_change_keys_without_end(port, config):
    """A holder of a certificate may do so; each change costs the server 40 µs."""
    protection = guard(**config)

    def reach(is_host):
        connect = StoreConnector(
            Endpoint(HERE, port), is_host, None, LONG_S, run_id="job", guard=protection
        )
        return connect(threading.Event()).store

    host, is_over, changes = reach(True), threading.Event(), []
    has_begun = threading.Event()

    def flood(connection):
        changer = KeyChanger(connection, config)
        changer.write(write_hello(ME))
        while not is_over.is_set() and changer.change_keys():
            changes.append(connection)
            has_begun.set()

    strangers = [socket.create_connection((HERE, port), LONG_S) for _ in range(3)]
    threads = [threading.Thread(target=flood, args=(each,)) for each in strangers]
    for thread in threads:
        thread.start()
    has_begun.wait(LONG_S)
    guest = reach(False)
    counts = [guest.add("n", 1) for _ in range(10)]
    is_over.set()
    guest.close()
    host.close()
    for each in strangers:
        each.close()
    for thread in threads:
        thread.join()

    assert [*range(1, 11)] == counts
    assert changes


def test_changes_of_keys_are_read_a_few_at_a_time(config):
    """Of a client that takes long; both clocks go on by 5 ms at each look."""
    ticks, taken = itertools.count(), []
    clock = lambda: 0.005 * next(ticks)  # noqa: E731
    with socket.create_server((HERE, 0)) as listener:  # a pair of Unix's takes few small messages
        mine = socket.create_connection(listener.getsockname(), LONG_S)
        its, _ = listener.accept()
    with mine, selectors.DefaultSelector() as selector:
        connections = Connections(
            AllGuests(), Entrance(guard(**config)), "mark", "here", ClientLimits(), selector,
            clock, lambda: None, clock,
        )  # fmt: skip
        connections.greet(its, "there")
        (peer,) = connections._peers.values()

        def flood():
            changer = KeyChanger(mine, config)
            changer.write(write_hello(ME))
            for _ in range(1000):
                changer.change_keys()

        thread = threading.Thread(target=flood)
        thread.start()
        while peer.session is None:
            selector.select(LONG_S)
            connections.attend(peer, READ)
        thread.join()
        for _ in range(2):  # it is measured after the first, and slow after the second
            peer.note_turn(0.005)
        while waiting := waiting_in(its):
            connections.attend(peer, READ)
            taken.append(waiting - waiting_in(its))
        is_costly = peer.is_costly
        connections.close()

    assert (True, 4096) == (is_costly, max(taken))


def waiting_in(connection):
    """Return how many bytes have come and are not read."""
    return int.from_bytes(fcntl.ioctl(connection, termios.FIONREAD, bytes(4)), "little")
