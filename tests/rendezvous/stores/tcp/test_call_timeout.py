"""Calls that are not answered, and the connections that are broken off for it."""

import os
import socket
import threading

import pytest
from elrun.rendezvous.stores.tcp.call_timeout import AnswerWatch, sever

PATIENCE_S = 30
QUICK = {"look_s": 0.01, "patience_s": 0.02}


def until(condition):
    """Return once the condition holds; the test's time-out bounds the wait."""
    while not condition():
        threading.Event().wait(0.005)


@pytest.fixture(name="pair")
def _pair():
    """Return a server's socket, and one that is connected to it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with client, accepted:
            yield accepted, client


def test_an_unanswered_call_comes_back(pair):
    """Who is stuck in a socket is freed, and told why first."""
    _, client = pair
    reasons = []
    watch = AnswerWatch(client.getpeername(), **QUICK)
    watch.subscribe(reasons.append)
    client.settimeout(PATIENCE_S)

    assert b"" == watch.call(client.recv, 1)
    assert ["it has not answered for 0.02 s (--rdzv-conf store_patience=...)"] == reasons


def test_answered_calls_are_no_silence(pair):
    """However many there are, and however long they go on: together for more than the patience."""
    reasons = []
    # 16 looks fit into no call, even where this thread has to wait for a processor.
    watch = AnswerWatch(pair[1].getpeername(), look_s=0.01, patience_s=0.15)
    watch.subscribe(reasons.append)
    seen = threading.Event()
    looks = [watch.call(seen.wait, 0.005) for _ in range(40)]
    watch.unsubscribe(reasons.append)

    assert not any(looks)
    assert [] == reasons


def test_who_waits_for_long_says_so(pair):
    """A call that was not watched is not missed: it waits for other nodes, not for an answer."""
    accepted, client = pair
    watch = AnswerWatch(client.getpeername(), **QUICK)
    got = []
    watch.subscribe(got.append)
    thread = threading.Thread(target=lambda: got.append(client.recv(1)))
    thread.start()
    threading.Event().wait(0.1)
    accepted.send(b"x")
    thread.join(PATIENCE_S)
    watch.unsubscribe(got.append)

    assert [b"x"] == got


def test_silence_within_the_patience_is_told_and_borne(pair, caplog):
    """A host that stands still for some seconds, or whose cable is mended, is not given up."""
    accepted, client = pair
    reasons = []
    watch = AnswerWatch(client.getpeername(), "node1:29400", PATIENCE_S, look_s=0.01)
    watch.subscribe(reasons.append)
    thread = threading.Thread(target=watch.call, args=(client.recv, 1))
    thread.start()
    until(lambda: "node1:29400 does not answer" in caplog.text)
    accepted.send(b"x")
    until(lambda: "node1:29400 answers again" in caplog.text)
    thread.join(PATIENCE_S)
    watch.unsubscribe(reasons.append)

    assert ([], False, 2) == (reasons, thread.is_alive(), len(caplog.records))
    assert f"waited for up to {PATIENCE_S} s (--rdzv-conf store_patience=...)" in caplog.text


def test_only_the_connections_to_that_peer_are_broken_off(pair):
    """Workers and other stores have theirs in the same process."""
    accepted, client = pair
    host, port = client.getpeername()
    sever((host, port + 1))
    sever(("127.0.0.2", port))
    client.send(b"still there")

    assert b"still there" == accepted.recv(100)


def test_a_watch_without_subscribers_has_no_thread(pair):
    """It goes on for as long as one of them is left."""
    one, other = [], []
    watch = AnswerWatch(pair[1].getpeername(), look_s=0.01)
    before = set(threading.enumerate())
    watch.subscribe(one.append)
    watch.subscribe(other.append)
    (thread,) = set(threading.enumerate()) - before
    watch.unsubscribe(one.append)
    watch.unsubscribe(one.append)
    thread.join(0.05)
    goes_on = thread.is_alive()
    watch.unsubscribe(other.append)
    thread.join(PATIENCE_S)

    assert (True, False) == (goes_on, thread.is_alive())


def test_no_descriptor_is_left_behind(pair):
    """Pipes, files and other sockets are looked at, too: a copy that stays would hold them open."""
    before = sorted(os.listdir("/proc/self/fd"))
    reading, writing = os.pipe()
    one, other = socket.socketpair()
    with one, other:
        sever(pair[1].getpeername())
        os.close(writing)

        assert b"" == os.read(reading, 1)
    os.close(reading)
    assert before == sorted(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this host has no IPv6")
def test_an_address_is_known_in_both_notations():
    """A socket of both kinds calls an IPv4 address by its mapped name, as torch's do."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.socket(socket.AF_INET6)
        client.connect(("::ffff:127.0.0.1", server.getsockname()[1]))
        accepted, _ = server.accept()
        with client, accepted:
            sever(server.getsockname())

            assert b"" == client.recv(1)
