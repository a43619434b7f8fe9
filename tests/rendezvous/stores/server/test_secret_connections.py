"""Connections that a secret protects: real sockets, true nodes, and strangers between them."""

import contextlib
import os
import socket
import subprocess
import sys
import threading

import pytest
from elrun.rendezvous.errors import RendezvousConnectionError, RendezvousStateError
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.network.ports import PortClaim
from elrun.rendezvous.stores.server.connector import StoreConnector
from elrun.rendezvous.stores.server.dial import shake_hands
from elrun.rendezvous.stores.server.frames import WireError, write_frame
from elrun.rendezvous.stores.server.guard import (
    NO_SECRET_HERE,
    OTHER_SECRET,
    SECRET_WANTED,
    Guard,
)
from elrun.rendezvous.stores.server.hello import (
    OTHER_RUN,
    Hello,
    Refusal,
    new_nonce,
    open_with,
    write_hello,
    write_nonce,
    write_opening,
    write_welcome,
)
from elrun.rendezvous.stores.server.wire import Add, Set, write_request
from elrun.rendezvous.stores.signed import Secret
from tap_kit import Tap

HERE = "127.0.0.1"
LONG_S = 30
OURS, THEIRS = Guard(Secret(b"open sesame")), Guard(Secret(b"please"))
NOBODYS = Guard()
ME = Hello("job", "a", "5e55")


class Places:
    """Opens stores of jobs at a port, and closes all of them."""

    def __init__(self):
        self.stores = []
        self.claims = []

    def reach(self, port, guard, run="job", *, is_host=False, timeout_s=LONG_S):
        endpoint = Endpoint(HERE, port)
        connect = StoreConnector(endpoint, is_host, None, timeout_s, run_id=run, guard=guard)
        self.stores.append(connect(threading.Event()).store)
        return self.stores[-1]

    def host(self, guard, run="job"):
        self.claims.append(PortClaim.take())
        port = self.claims[-1].port
        store = self.reach(port, guard, run, is_host=True)
        store.port = port
        return store

    def close(self):
        for store in reversed(self.stores):
            store.close()
        for claim in self.claims:
            claim.release()


@pytest.fixture(name="places")
def _places():
    places = Places()
    yield places
    places.close()


@pytest.fixture(name="host")
def _host(places):
    return places.host(OURS)


@pytest.fixture(name="tap")
def _tap(host):
    tap = Tap(host.port)
    yield tap
    tap.close()


def greet(port, guard, hello=ME):
    with socket.create_connection((HERE, port), LONG_S) as connection:
        return shake_hands(connection, hello, LONG_S, guard)


def is_ended(connection):
    """Return whether the other side ends the connection; the test's time-out bounds the wait."""
    connection.settimeout(LONG_S)
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionResetError:
        pass
    return True


def test_nodes_that_know_the_secret_share_a_store(places, host):
    """As they do without one."""
    guest = places.reach(host.port, OURS)
    guest.set({"big": bytes(1 << 20)})

    assert (1, 2) == (guest.add("n", 1), host.add("n", 1))
    assert [bytes(1 << 20)] == host.get(["big"])


@pytest.mark.parametrize(
    ("theirs", "mine", "kind", "sentence"),
    [
        (OURS, NOBODYS, SECRET_WANTED, "run 'job' takes only nodes that know its secret"),
        (OURS, THEIRS, OTHER_SECRET, "run 'job' has another secret than this node"),
        (NOBODYS, OURS, NO_SECRET_HERE, "run 'job' was started without a secret, and this node"),
    ],
    ids=["none", "another", "not wanted"],
)
def test_a_node_with_another_secret_is_refused_with_a_sentence(
    places, theirs, mine, kind, sentence
):
    """Before it has read or written a key; neither side goes on without the secret."""
    host = places.host(theirs)
    refusal = greet(host.port, mine)
    with pytest.raises(RendezvousStateError, match=sentence):
        places.reach(host.port, mine)

    assert kind == refusal.kind
    assert 1 == host.add("n", 1)


@pytest.mark.parametrize("mine", [NOBODYS, THEIRS, OURS])
def test_a_job_of_another_name_waits_until_the_store_is_gone(places, host, mine):
    """Whatever its secret; the sentence doesn't say which run it is."""
    with pytest.raises(RendezvousConnectionError, match="it is the store of another run") as told:
        places.reach(host.port, mine, "other", timeout_s=0.2)

    assert "'job'" not in str(told.value)


def test_a_stranger_learns_neither_the_run_nor_a_proof(host):
    """A server with a secret answers with random bytes, and refuses in words of one kind."""
    opening = write_opening(open_with(new_nonce(), "job"))
    told = b""
    for first in (write_hello(Hello("guess", "x")), write_hello(ME), opening + opening):
        with socket.create_connection((HERE, host.port), LONG_S) as connection:
            connection.sendall(first)
            while data := connection.recv(1 << 16):
                told += data

    assert b"job" not in told
    assert b"welcome" not in told


REFUSED = {
    "another name, no secret": (
        b'{"elrun":3,"hello":{"run":"guess","host":"x"}}',
        b'\x00\x00\x00\x27{"elrun":3,"refused":"run","reason":""}',
    ),
    "the name, no secret": (
        b'{"elrun":3,"hello":{"run":"job","host":"x"}}',
        b'\x00\x00\x00\x31{"elrun":3,"refused":"secret-wanted","reason":""}',
    ),
    "another name, a nonce": (
        b'{"elrun":3,"nonce":"00112233445566778899aabbccddeeff","run":"guess"}',
        b'\x00\x00\x00\x27{"elrun":3,"refused":"run","reason":""}',
    ),
}


@pytest.mark.parametrize(("first", "answer"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_says_only_whether_the_name_is_right(host, first, answer):
    """A job of another name has to wait, and a node of this one to end at once."""
    with socket.create_connection((HERE, host.port), LONG_S) as connection:
        connection.sendall(len(first).to_bytes(4, "big") + first)
        told = b""
        while data := connection.recv(1 << 16):
            told += data

    assert answer == told


@pytest.mark.parametrize("run", ["job", "other"], ids=["the same run", "another run"])
def test_a_replayed_connection_is_refused(places, host, tap, run):
    """What a true node said once proves nothing a second time: the server's nonce is another."""
    guest = places.reach(tap.port, OURS)
    guest.add("n", 5)
    (recorded,) = tap.sent()
    victim = host if run == "job" else places.host(OURS, run)
    before = victim.add("n", 0)
    assert b'"do":"add"' in recorded
    with socket.create_connection((HERE, victim.port), LONG_S) as connection:
        connection.sendall(recorded)
        assert is_ended(connection)

    assert before == victim.add("n", 0)


def test_a_server_of_another_run_with_the_same_secret_serves_no_node_of_this_one(places, host, tap):
    """One that can bend the network can't let two jobs meet."""
    other = places.host(OURS, "other")
    tap.server_port = other.port
    refusal = greet(tap.port, OURS)

    assert OTHER_RUN == refusal.kind


@pytest.mark.parametrize("again", ["same connection", "another connection"])
def test_a_replayed_frame_ends_its_connection(places, host, tap, again):
    """One that can read and write the network can repeat no write, no will and no bye."""
    guest, other = places.reach(tap.port, OURS), places.reach(tap.port, OURS)
    guest.add("n", 5)
    other.add("m", 1)
    mine, its = tap.links
    frame = mine.frames_to_server()[-1]
    (mine if again == "same connection" else its).inject(frame)

    # Both come back with their sessions, and nothing has happened twice.
    assert (6, 2) == (guest.add("n", 1), other.add("m", 1))


def test_a_changed_frame_changes_nothing(places, host, tap):
    """Another amount under the same seal ends the connection; the node comes back and repeats."""
    guest = places.reach(tap.port, OURS)
    tap.change(b'"amount":5', b'"amount":6')

    assert 5 == guest.add("n", 5)
    assert tap.has_changed


def test_a_frame_that_is_left_out_is_missed(places, host, tap):
    """The next one has a number that the server does not expect: all is repeated, in order."""
    guest = places.reach(tap.port, OURS)
    tap.leave_out(b'"key":"lost"')
    asking = threading.Thread(target=guest.add, args=("lost", 1))
    asking.start()
    tap.has_left_out.wait(LONG_S)

    assert 1 == guest.add("n", 1)
    asking.join(LONG_S)
    assert 1 == host.add("lost", 0)


def test_a_changed_answer_is_not_believed(places, host, tap):
    """Nor is a count, a value or an error that the server has not sealed."""
    guest = places.reach(tap.port, OURS)
    tap.change(b'"count":5', b'"count":7')

    assert 5 == guest.add("n", 5)


def test_a_session_that_comes_back_proves_the_secret_again(places, host):
    """Its name alone, which anyone on the network can read, is worth nothing."""
    guest = places.reach(host.port, OURS)
    session = guest._line._reconnection._redial.__closure__
    names = [cell.cell_contents for cell in session if isinstance(cell.cell_contents, Hello)]
    (again,) = names
    answers = [greet(host.port, guard, again) for guard in (NOBODYS, THEIRS)]

    assert again.resumes
    assert [SECRET_WANTED, OTHER_SECRET] == [answer.kind for answer in answers]
    assert 1 == guest.add("n", 1)


class FalseServer:
    """Answers a client's first messages with these bytes."""

    def __init__(self, *answers):
        self.listener = socket.create_server((HERE, 0))
        self.port = self.listener.getsockname()[1]
        self.answers = answers
        self.heard = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        connection, _ = self.listener.accept()
        with connection:
            for answer in self.answers:
                self.heard.append(connection.recv(1 << 16))
                connection.sendall(self.heard[-1] if answer is None else answer)
            connection.recv(1)


@pytest.mark.parametrize(
    "answers",
    [
        [write_welcome("a1")],
        [write_nonce(bytes(16)), write_welcome("a1")],
        [None],
        [None, None],
        [write_nonce(b"1")],
        [write_frame({"elrun": 3, "nonce": 7})],
    ],
    ids=["downgrade", "no proof", "reflection", "two reflections", "short nonce", "no nonce"],
)
def test_a_peer_that_answers_as_a_server_is_not_believed(answers):
    """Who does not know the secret can't prove it, nor send a node's own proof back to it."""
    server = FalseServer(*answers)
    with pytest.raises((WireError, ConnectionResetError)):
        greet(server.port, OURS)
    server.listener.close()

    assert b"5e55" not in server.heard[0]


@pytest.mark.parametrize("mine", [NOBODYS, OURS])
def test_a_peer_that_refuses_is_told_in_elruns_own_words(mine):
    """A false refusal can keep a node away, as a cut cable can, and nothing else."""
    server = FalseServer(write_frame({"elrun": 3, "refused": SECRET_WANTED, "reason": ""}))
    answer = greet(server.port, mine)
    server.listener.close()

    assert isinstance(answer, Refusal)
    assert answer.reason.startswith("run 'job' takes only nodes that know its secret")


@pytest.mark.parametrize("kind", ["{0}", "{", "}", "{run.__class__}", "{run", "?"])
def test_a_kind_of_refusal_that_is_unknown_is_shown_as_it_came(kind):
    """A server that has proved nothing chose the kind: no sentence is made of the kind."""
    server = FalseServer(write_frame({"elrun": 3, "refused": kind, "reason": ""}))
    answer = greet(server.port, NOBODYS)
    server.listener.close()

    assert Refusal(kind, kind) == answer


def test_a_wrong_nonce_of_a_client_is_no_first_message(host):
    """Numbers, short ones and none."""
    for nonce in (7, "00", "zz" * 16, None):
        with socket.create_connection((HERE, host.port), LONG_S) as connection:
            connection.sendall(write_frame({"elrun": 3, "nonce": nonce, "run": ""}))
            assert is_ended(connection)

    assert 1 == host.add("n", 1)


FLOOD = """
import collections, contextlib, os, socket, sys
from elrun.rendezvous.stores.server.hello import new_nonce, open_with, write_opening
held = collections.deque(maxlen=1500)
print("begun", flush=True)
while os.getppid() == int(sys.argv[3]):
    with contextlib.suppress(OSError):
        held.append(socket.create_connection(("127.0.0.1", int(sys.argv[1])), 30))
        held[-1].sendall(write_opening(open_with(new_nonce(), "job")) if sys.argv[2] else b"")
"""


@pytest.mark.integration
@pytest.mark.parametrize("first", ["", "nonce"], ids=["silent", "with a nonce"])
def test_thousands_of_strangers_keep_no_node_out(places, host, first):
    """They hold on to their connections, and take more and more of them."""
    command = [sys.executable, "-c", FLOOD, str(host.port), first, str(os.getpid())]
    with contextlib.ExitStack() as floods:
        for _ in range(2):
            flood = floods.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            floods.callback(flood.kill)
            assert b"begun\n" == flood.stdout.readline()
        counts = [places.reach(host.port, OURS).add("n", 1) for _ in range(4)]

    assert [1, 2, 3, 4] == counts


def test_a_write_of_a_stranger_before_its_proof_is_no_hello(host):
    """The server knows no key before the hello."""
    for request in (Add("n", 1), Set({"n": b"9"})):
        with socket.create_connection((HERE, host.port), LONG_S) as connection:
            connection.sendall(write_opening(open_with(new_nonce(), "job")))
            connection.sendall(write_request(1, request))
            assert is_ended(connection)

    assert [None] == host.get(["n"])
