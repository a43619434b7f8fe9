"""The small HTTP server, with real sockets."""

import contextlib
import os
import resource
import socket
import threading
from functools import partial

import pytest
from elrun.agent.serving import http_server
from elrun.agent.serving.http_messages import MAX_HEAD_BYTES, Answer
from elrun.agent.serving.http_server import MAX_CONNECTIONS, HttpServer, _Phase
from elrun.agent.serving.listeners import listen_at_port
from worker_kit import wait_until

pytestmark = pytest.mark.integration

LOOPBACK = "127.0.0.1"
PATIENCE_S = 30
GET = b"GET /%s HTTP/1.1\r\n\r\n"


@pytest.fixture(name="serve")
def _serve():
    servers = []

    def start(respond=lambda path, *_: Answer(200, path), host=LOOPBACK, port=0, **options):
        server = HttpServer(partial(listen_at_port, host, port), respond, **options)
        servers.append(server)
        return server, server.start().getsockname()[1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(name="connect")
def _connect():
    with contextlib.ExitStack() as stack:
        yield lambda port, host=LOOPBACK: stack.enter_context(
            socket.create_connection((host, port), timeout=PATIENCE_S)
        )


def hear(client):
    """Return all that the server sends until it hangs up."""
    heard = b""
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(65_536):
            heard += data
    return heard


def ask(client, path=b""):
    client.sendall(GET % path)
    return hear(client)


@pytest.mark.parametrize("host", [LOOPBACK, "::1", "localhost"])
def test_a_question_is_answered(serve, connect, host):
    """At whatever kind of address it was to listen."""
    _, port = serve(host=host)

    heard = ask(connect(port, host=host), b"status?x=1")

    assert heard.startswith(b"HTTP/1.1 200 OK\r\n")
    assert heard.endswith(b"\r\n\r\n/status")


def test_a_second_request_on_a_connection_is_not_answered(serve, connect):
    """Pipelining clients get one answer, and the end: what they sent behind is not kept."""
    _, port = serve()
    client = connect(port)

    client.sendall(GET % b"first" + (GET % b"second") * 1_000)

    assert 1 == hear(client).count(b"HTTP/1.1")


def test_a_thousand_half_open_connections_hold_nobody_up(serve, connect):
    """The newest is heard; the oldest go; the server keeps a bounded number."""
    _, port = serve()
    crowd = [connect(port) for _ in range(1_000)]

    assert b"200 OK" in ask(connect(port))

    alive = sum(not is_closed(client) for client in crowd)
    assert 0 < alive <= MAX_CONNECTIONS


def is_closed(client):
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_ten_megabytes_of_headers_are_not_kept(serve, connect):
    """The server refuses them after a few KiB, and hangs up on whoever goes on."""
    server, port = serve()
    client = connect(port)
    kept = []

    with contextlib.suppress(ConnectionError):
        client.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(10 * 1_024):
            client.sendall(b"X: " + b"a" * 1_019 + b"\r\n")
            kept += [len(each.received) for each in list(server._connections)]

    assert b"431" in hear(client) or not server._connections
    assert max(kept, default=0) < 2 * MAX_HEAD_BYTES
    assert b"200 OK" in ask(connect(port))


def test_a_refused_client_hears_why(serve, connect):
    """Also where it goes on sending: a reset would take the answer back."""
    server, port = serve()
    client = connect(port)
    client.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * MAX_HEAD_BYTES)
    wait_until(lambda: any(each.phase is _Phase.LEAVING for each in list(server._connections)))

    for _ in range(10):
        client.sendall(b"a" * 10_000)
    client.shutdown(socket.SHUT_WR)

    assert hear(client).startswith(b"HTTP/1.1 431 ")


def test_a_slow_client_is_hung_up_on(serve, connect, monkeypatch):
    """Its time for the whole request doesn't start anew with each byte."""
    server, port = serve()
    client = connect(port)
    wait_until(lambda: server._connections)
    (connection,) = server._connections
    deadline = connection.deadline

    client.sendall(b"GET")
    wait_until(lambda: connection.received == b"GET")
    assert deadline == connection.deadline

    monkeypatch.setattr(http_server, "REQUEST_S", 0.1)
    slower = connect(port)
    slower.sendall(b"GET")

    assert hear(slower) == b""


def test_a_client_that_reads_nothing_is_hung_up_on(serve, connect, monkeypatch):
    """An answer that isn't taken is not offered for ever."""
    monkeypatch.setattr(http_server, "REPLY_S", 0.1)
    is_answered = threading.Event()
    server, port = serve(lambda *_: is_answered.set() or Answer(200, "x" * 50_000_000))
    client = connect(port)
    client.sendall(GET % b"")

    assert is_answered.wait(PATIENCE_S)
    wait_until(lambda: not server._connections)

    assert len(hear(client)) < 50_000_000


def test_an_answer_may_be_put_off_until_something_is_known(serve, connect):
    """Others are served meanwhile; ``recheck`` has the server ask again."""
    known = threading.Event()
    put_off = threading.Event()

    def respond(path, _, is_last_chance):
        if path == "/slow" and not known.is_set():
            put_off.set()
            return None
        return Answer(200, f"{path} {is_last_chance}")

    server, port = serve(respond, patience_s=PATIENCE_S)
    slow = connect(port)
    slow.sendall(GET % b"slow")
    assert put_off.wait(PATIENCE_S)
    slow.sendall(b"and more")
    assert ask(connect(port), b"quick").endswith(b"/quick False")
    (waiting,) = (each for each in server._connections if each.phase is _Phase.ASKING)
    assert waiting.socket not in server._selector.get_map()  # what else it sends wakes nobody

    known.set()
    server.recheck()

    assert hear(slow).endswith(b"/slow False")


def test_patience_has_an_end(serve, connect):
    """Then the last answer counts, and none at all is a fault of the server's."""
    _, port = serve(
        lambda path, _, is_last_chance: (
            Answer(200, "late") if path == "/a" and is_last_chance else None
        ),
        patience_s=0.05,
    )

    assert ask(connect(port), b"a").endswith(b"\r\n\r\nlate")
    assert b" 500 " in ask(connect(port), b"b")


def test_a_fault_in_one_answer_ends_no_other(serve, connect, caplog):
    """The client hears of it, and the next one is answered."""

    def respond(path, *_):
        return Answer(200, f"{1 // len(path.strip('/'))}")

    _, port = serve(respond)

    faulty, other = ask(connect(port)), ask(connect(port), b"x")

    assert faulty.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert other.endswith(b"\r\n\r\n1")
    (message,) = caplog.messages
    assert message.startswith("a request for / can't be answered: ZeroDivisionError(")


def test_without_descriptors_it_pauses_and_then_goes_on(serve, connect, monkeypatch):
    """A listener that stays readable must not keep the thread turning."""
    monkeypatch.setattr(http_server, "_PAUSE_S", 0.05)
    server, port = serve()
    paused = threading.Event()
    pause = server._pause
    monkeypatch.setattr(server, "_pause", lambda: (pause(), paused.set()))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    client = socket.socket()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
        client.settimeout(PATIENCE_S)
        client.connect((LOOPBACK, port))
        assert paused.wait(PATIENCE_S)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    with client:
        assert b"200 OK" in ask(client)


def test_a_stopped_server_gives_its_address_back(serve, connect):
    """Also where a client is connected, and a forked worker holds its sockets."""
    server, port = serve()
    client = connect(port)
    wait_until(lambda: server._connections)
    (connection,) = server._connections
    copies = [os.dup(server._listener.fileno()), os.dup(connection.socket.fileno())]

    server.stop()

    assert hear(client) == b""
    with pytest.raises(ConnectionRefusedError):
        connect(port)
    serve(port=port)
    for copy in copies:
        os.close(copy)


def test_a_server_that_was_stopped_before_it_began_serves_nobody():
    """Its own thread may come to it late: there is no address to listen at any more."""
    server = HttpServer(lambda: pytest.fail("it listens"), lambda *_: None)
    server.stop()

    server.serve()


def test_nothing_turns_while_nobody_asks(serve, connect):
    """The thread waits without a time-out."""
    server, port = serve()
    assert b"200 OK" in ask(connect(port))
    wait_until(lambda: not server._connections)

    assert server._time_left() is None
