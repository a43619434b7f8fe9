"""What a client does with a server that does it harm: it gives up in a sentence, and soon."""

import contextlib
import itertools
import socket
import threading
import time

import pytest
from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.stores.server.calls import Call, Calls
from elrun.rendezvous.stores.server.connector import StoreConnector
from elrun.rendezvous.stores.server.dial import Target, dial
from elrun.rendezvous.stores.server.frames import WireError, write_frame
from elrun.rendezvous.stores.server.hello import write_welcome
from elrun.rendezvous.stores.server.wire import Answer, Get
from tls_kit import HERE, LONG_S, ME

BRIEF_S = 1.0
SILENT = "a connection is accepted there, and no store server answers"
CLOSED = "connections are accepted there and closed without an answer"
FOREIGN = "a program answers that is no store server"


def endlessly(data, pause_s=0.0):
    def answer(connection):
        while True:
            connection.sendall(data)
            time.sleep(pause_s)

    return answer


def once(data):
    return lambda connection: connection.sendall(data)


def slow_frame(connection):
    connection.sendall((8 << 20).to_bytes(4, "big"))
    endlessly(b" ", 0.05)(connection)


def nothing(connection):
    connection.recv(1)


class Hostile:
    """Takes connections, reads the hello, and answers as it likes; then it closes them."""

    def __init__(self, answer):
        self._answer = answer
        self._listener = socket.create_server((HERE, 0))
        self.endpoint = Endpoint(HERE, self._listener.getsockname()[1])
        self.visits = 0
        self._is_over = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while True:
            connection, _ = self._listener.accept()
            if self._is_over:
                connection.close()
                return
            self.visits += 1
            with connection, contextlib.suppress(OSError):
                connection.recv(1 << 16)
                self._answer(connection)

    def close(self):
        self._is_over = True
        socket.create_connection(self.endpoint).close()
        self._thread.join()
        self._listener.close()


@pytest.fixture(name="hostile")
def _hostile():
    """Return what starts a server that answers each connection so."""
    servers = []

    def start(answer):
        servers.append(Hostile(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (once(b"HTTP/1.1 400 Bad Request\r\n\r\n"), FOREIGN),
        (once(b"\xff" * 64), FOREIGN),
        (once((1 << 15).to_bytes(4, "big")), FOREIGN),
        (once(write_frame({"elrun": 3})), FOREIGN),
        (endlessly(write_frame({"elrun": 3})), FOREIGN),
        (endlessly(b"\0" * (1 << 16)), FOREIGN),
        (endlessly(b"\0", 0.05), FOREIGN),
        (endlessly((1000).to_bytes(4, "big"), 0.05), SILENT),
        (nothing, SILENT),
        (lambda _: None, CLOSED),
        (once(b"\0\0\1\0{"), FOREIGN),
    ],
    ids=["http", "junk", "a large frame", "no welcome", "endless objects", "endless zeros",
         "slow zeros", "a slow frame", "nothing", "the end", "a part"],
)  # fmt: skip
def test_what_answers_a_hello_otherwise_is_no_store(hostile, answer, reason):
    """Within the time that a handshake has."""
    patience_s = BRIEF_S if reason is SILENT else LONG_S  # the others answer, also a busy machine
    found = dial(Target(hostile(answer).endpoint), ME, LONG_S, patience_s)

    assert found.reason.startswith(reason), found


def welcomed_then(answer):
    """Let a client in, and answer its first request so; then wait until it goes."""

    def welcome(connection):
        connection.sendall(write_welcome("a1b2"))
        connection.recv(1 << 16)
        answer(connection)
        while connection.recv(1 << 16):
            pass

    return welcome


def reach(server, patience_s):
    connect = StoreConnector(server.endpoint, False, None, LONG_S, patience_s=patience_s)
    return connect(threading.Event()).store


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (once(b"\xff" * 64), "what it sends is not understood: a frame of 4294967295 bytes"),
        (once(write_frame({"id": -1})), "is not understood: id is no number"),
        (
            endlessly(write_frame({"id": 77}) * 1000),
            "is not understood: 65536 answers to no request",
        ),
        (
            endlessly(write_frame({"id": 1, "values": [], "more": True})),
            "is not understood: a part of an answer is empty",
        ),
        (once(write_frame({"id": 1, "values": ["MQ==", "MQ=="]})), "is not understood: "),
    ],
    ids=["junk", "no number", "strays", "empty parts", "too much"],
)
def test_answers_to_nothing_that_was_asked_lose_the_store(hostile, answer, sentence):
    """However long the client is ready to wait: a wait has no patience of its own."""
    store = reach(hostile(welcomed_then(answer)), LONG_S)
    with pytest.raises(RendezvousConnectionError, match=sentence):
        store.wait(["k"], None)
    store.close()


@pytest.mark.parametrize(
    "answer",
    [slow_frame, nothing],
    ids=["slow bytes", "nothing"],
)
def test_a_request_that_is_not_answered_has_an_end(hostile, answer):
    """Bytes are no answer."""
    store = reach(hostile(welcomed_then(answer)), BRIEF_S)
    with pytest.raises(RendezvousConnectionError, match="it has not answered for 1 s"):
        store.get(["k"])
    store.close()


def test_a_server_that_closes_each_connection_is_lost_after_a_while(hostile):
    """It lets the client in each time, so each attempt to come back succeeds at first."""
    server = hostile(once(write_welcome("a1b2")))
    store = reach(server, BRIEF_S)
    with pytest.raises(
        RendezvousConnectionError,
        match="was not made anew in 1 s: it takes each connection and closes it before it answers",
    ):
        store.wait(["k"], None)
    store.close()

    assert server.visits < 20


def test_answers_to_waits_that_were_taken_back_are_counted_anew_at_each_answer():
    """A node takes waits back while their answers are under way: that is no fault."""
    calls, numbers = Calls("there", LONG_S), itertools.count(1)
    for _ in range(3):
        for _ in range(1 << 15):
            calls.take(Answer(0))
        call = Call(next(numbers), Get(()))
        calls.add([call])
        assert calls.take(Answer(call.number))
    strays = [calls.take(Answer(0)) for _ in range(1 << 16)]
    with pytest.raises(WireError, match="answers to no request"):
        calls.take(Answer(0))

    assert not any(strays)
