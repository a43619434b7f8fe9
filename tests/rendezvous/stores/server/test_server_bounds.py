"""What a store server bears: many clients, clients that stand still, and floods."""

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.network.ports import PortClaim
from elrun.rendezvous.stores.server.answers import Answers
from elrun.rendezvous.stores.server.connector import StoreConnector
from elrun.rendezvous.stores.server.dial import Target, dial, shake_hands
from elrun.rendezvous.stores.server.frames import MAX_COMMAS, FrameReader, write_frame
from elrun.rendezvous.stores.server.guests import ClientLimits
from elrun.rendezvous.stores.server.hello import Hello, Refusal, write_hello
from elrun.rendezvous.stores.server.sessions import MOST_OUTCOMES, Sessions
from elrun.rendezvous.stores.server.table import StoreTable, TableError
from elrun.rendezvous.stores.server.wire import Create, Get, write_request
from round_kit import HELLO, Job, failed
from rounds_kit import RUN, rounds
from server_kit import LONG_S, is_closed, serves

CROWD = Path(__file__).parents[4] / "benchmarks" / "crowd.py"
HERE = "127.0.0.1"


def test_a_late_nodes_wait_is_answered_by_an_error(server):
    """It joins the round that forms, as after a lost connection."""
    late, other = server.client(), server.client()
    other.set({RUN.round(0).node(0): b"n"})
    told = []
    heard = threading.Event()
    late.watch([RUN.round(0).verdict], lambda error: (told.append(error), heard.set()))
    late.add("n", 1)
    rounds(other, 20, first=1)

    assert heard.wait(LONG_S)
    assert isinstance(told[0], RendezvousConnectionError)
    assert "the round is over" in str(told[0])
    late.close()
    other.close()


def memory_kb():
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") // 1024


def test_a_round_whose_number_no_integer_can_hold_is_a_key_like_others(server):
    """Python reads no number of 5,000 digits; the server's thread goes on."""
    client = server.client()
    key = "run/job/round/" + "9" * 5000 + "/seats"
    client.set({key: b"1"})
    count = client.add(key, 1)

    assert (2, b"1") == (count, client.create(key + "/x", b"1"))
    assert serves(server)
    client.close()


@pytest.mark.integration
def test_300_rounds_leave_no_more_keys_than_ten(server):
    """Real nodes over a real server: each round ends by a failure, and the next one begins."""
    job = Job(server.client)
    nodes = job.some(3, (3, 3), max_restarts=1000)
    table = server.server._connections._answers._table
    sizes = []
    for number in range(300):
        job.rendezvous(nodes)
        nodes[number % 3].handler.conclude(failed(number % 3))
        for node in nodes:
            node.await_verdict()
            node.changed.clear()
        if number in (20, 299):
            sizes.append((len(table._values), len(table._waits), memory_kb()))
    job.close()
    (keys, waits, kb), (keys_then, waits_then, kb_then) = sizes

    assert abs(keys_then - keys) <= 10, sizes
    assert abs(waits_then - waits) <= 3, sizes
    assert kb_then - kb < 8192, sizes  # the allocator keeps some: keys and waits are counted above


# Connections.


@pytest.mark.integration
def test_as_many_clients_as_this_machine_allows_are_served():
    """Up to 10,000: each is let in, gets its place, and hears the verdict."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    count = min(10_000, hard - 1000 if hard > 0 else 10_000)
    command = [sys.executable, CROWD, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)

    assert 0 == done.returncode, done.stderr
    assert f'"nodes": {count}' in done.stdout


LIMITED = """
import os, resource, sys
hard = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
from elrun.rendezvous.stores.server.host import make_room_for
make_room_for(int(sys.argv[2]))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.integration
@pytest.mark.parametrize(
    ("hard", "nodes", "least", "is_told"),
    [(4096, 2, 256, False), (4096, 1000, 1256, False), (600, 1000, 600, True)],
    ids=["few nodes", "many", "too many"],
)
def test_the_host_raises_its_limit_of_open_files(hard, nodes, least, is_told):
    """As far as it may; a sentence says where that is not enough."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(hard), str(nodes)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = "may have only 600 open files: raise the hard limit of open files" in done.stderr

    assert is_told == told, done.stderr
    assert least <= int(done.stdout) <= hard


def test_more_clients_than_a_server_takes_are_refused_in_words(open_server):
    """Those who are there go on."""
    server = open_server(limits=ClientLimits(clients=2))
    first, second = server.client(), server.client()
    with server.dial() as late:
        answer = shake_hands(late, HELLO, LONG_S)

    assert Refusal("full", "here has 2 clients already") == answer
    assert 1 == first.add("n", 1)
    first.close()
    second.close()


def test_parts_of_frames_are_held_up_to_a_bound(open_server):
    """Clients that begin large frames and never end them: the one with the most is let go."""
    server = open_server(limits=ClientLimits(held_bytes=4 << 20))
    good = server.client()
    bad = [server.welcomed() for _ in range(3)]
    for number, connection in enumerate(bad):
        connection.sendall((15 << 20).to_bytes(4, "big"))
        with contextlib.suppress(OSError):
            connection.sendall(bytes((1 << 20) * (number + 1)))

    assert is_closed(bad[2])
    assert 1 == good.add("n", 1)
    for connection in bad[:2]:
        connection.close()
    good.close()


def test_what_a_session_remembers_is_bounded_in_bytes():
    """Large values that its client has created; the newest are kept, however large."""
    session = Sessions(60.0).begin("a", "host")
    for number in range(MOST_OUTCOMES):
        session.note(number, bytes(1 << 20))
    known = [isinstance(session.outcome_of(number), bytes) for number in range(MOST_OUTCOMES)]

    assert [False] * (MOST_OUTCOMES - 16) + [True] * 16 == known


def test_what_all_sessions_remember_is_bounded_in_bytes():
    """The client with the most is remembered nothing, and its writes are still not repeated."""
    sessions = Sessions(60.0, most_bytes=25)
    modest, greedy = sessions.begin("a", "host"), sessions.begin("b", "host")
    for number, session in enumerate([modest, greedy, greedy]):
        session.note(number, bytes(10))
        sessions.bound(session)
    forgotten = greedy.outcome_of(2)
    sessions.end(modest)

    assert isinstance(forgotten, TableError)
    assert greedy.is_repeated(2)
    assert 0 == sessions._remembered.size


def test_an_answer_that_many_clients_have_counts_once():
    """All survivors create the roster; each is answered with the one that stands."""
    sessions, answers = Sessions(60.0, most_bytes=25), Answers(max_waits=4)
    nodes = [sessions.begin(str(number), "host") for number in range(5)]
    for number, node in enumerate(nodes):
        answers.answer(node, 1, Create("roster", b"roster by %d" % number + bytes(8), b""))
        sessions.bound(node)
    known = [node.outcome_of(1) for node in nodes]
    size = sessions._remembered.size
    for node in nodes:
        sessions.end(node)

    assert [b"roster by 0" + bytes(8)] * 5 == known
    assert (19, 0) == (size, sessions._remembered.size)


def test_a_client_that_can_not_come_back_is_remembered_nothing():
    sessions = Sessions(60.0)
    session = sessions.begin("", "host")
    session.note(1, b"value")
    sessions.bound(session)

    assert 0 == sessions._remembered.size
    assert isinstance(session.outcome_of(1), TableError)


@pytest.mark.parametrize(
    "request_of",
    [
        lambda keys: {"id": 1, "do": "get", "keys": keys},
        lambda keys: {"id": 1, "do": "wait", "keys": keys},
        lambda keys: {"id": 1, "do": "set", "values": dict.fromkeys(keys, "")},
        lambda keys: {"id": 1, "do": [{}] * len(keys)},
    ],
    ids=["get", "wait", "set", "junk"],
)
def test_a_frame_of_very_many_parts_is_refused_unread(server, request_of):
    """To read it would hold the others up for seconds. What comes after it is answered."""
    frame = write_frame(request_of([f"{number:x}" for number in range(MAX_COMMAS + 2)]))
    reader, answers = FrameReader(1 << 20), []
    with server.welcomed() as connection:
        connection.settimeout(LONG_S)
        connection.sendall(frame + write_frame({"id": 2, "do": "add", "key": "n", "amount": 1}))
        while len(answers) < 2:
            data = connection.recv(1 << 16)
            assert data, "the connection was ended"
            answers += reader.feed(data)
    refused, counted = answers

    assert 1 == refused["id"]
    assert "commas, and 131072 are allowed" in refused["error"]
    assert {"id": 2, "count": 1} == counted


def test_a_frame_of_very_many_parts_that_is_no_request_ends_its_connection(server):
    with server.welcomed() as connection:
        connection.settimeout(LONG_S)
        with contextlib.suppress(ConnectionError):
            connection.sendall(write_frame({"do": [0] * (MAX_COMMAS + 2)}))

        assert is_closed(connection)
    assert serves(server)


HALF = MAX_COMMAS // 2 - 1  # so many values and one key more fit into one frame, no further ones


@pytest.mark.parametrize("count", [HALF, HALF + 1, MAX_COMMAS - 1, MAX_COMMAS, MAX_COMMAS + 2])
def test_a_client_reads_and_writes_any_number_of_keys(server, count):
    """In as many requests as that takes, none of which exceeds the server's limit."""
    keys = [f"{number:x}" for number in range(count)]
    client = server.client()
    client.set(dict.fromkeys(keys, b"1"))
    values = client.get([*keys, keys[0]])
    changed = client.exchange(dict.fromkeys(keys, b"2"), [*keys, "none"])
    client.close()

    assert [b"1"] * (count + 1) == values
    assert [*[b"2"] * count, None] == changed


@pytest.mark.parametrize("way", ["wait", "watch"])
def test_a_wait_for_more_keys_than_the_server_takes_is_refused_here(server, way):
    """A wait is one request: the client sends none, and goes on."""
    client = server.client()
    keys = [f"{number:x}" for number in range(MAX_COMMAS)]
    with pytest.raises(ValueError, match="with 131073 commas is larger than the store takes"):
        client.wait(keys, LONG_S) if way == "wait" else client.watch(keys, print)
    counted = client.add("n", 1)
    pending = client._line._calls.in_order()
    client.close()

    assert (1, []) == (counted, pending)


def test_commas_within_keys_do_not_count(server):
    """As those of --rdzv-id lr=1e-3,bs=64: only commas between keys take time to read."""
    client = server.client()
    keys = [f"a,b,c,{number}" for number in range(MAX_COMMAS // 2)]
    client.set(dict.fromkeys(keys, b"1"))
    values = client.wait(keys, LONG_S)
    frame = write_request(1, Get(tuple(keys)))
    client.close()

    assert [b"1"] * len(keys) == values
    assert len(keys) + 1 == frame.count(b",")
    assert {"id": 1, "do": "get", "keys": keys} == json.loads(frame[4:])


def test_the_keys_of_waits_are_bounded_in_characters():
    """Also those that are there already; what is no longer waited for makes room."""
    table = StoreTable()
    there = ["t" * 8000 + str(number) for number in range(1000)]
    table.set(dict.fromkeys(there, b"1"))
    waits = [table.wait(number, [*there, "k"]) for number in range(8)]
    awaited = table._awaited
    with pytest.raises(TableError, match="8008 keys are waited for already"):
        table.wait(8, [*there, "k"])
    table.forget(waits[0])
    forgets = [*table.work()]
    waits.append(table.wait("another", [*there, "k"]))
    table.set({"k": b"1"})
    ended = [*filter(None, table.work())]
    for wait in ended:
        table.forget(wait)
    forgets += table.work()

    assert 8 * 1001 == awaited
    assert {None} == set(forgets)
    assert set(waits[1:]) == set(ended)
    assert (0, 0) == (table._awaited, table._awaited_characters)


# Clients that stand still.

STANDS_STILL = """
import sys, threading
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.stores.server.connector import StoreConnector
connect = StoreConnector(Endpoint("127.0.0.1", int(sys.argv[1])), False, None, 30)
store = connect(threading.Event()).store
for number in range(50):
    store.watch([f"k{number}"], lambda values: None)
store.watch(["end"], lambda values: store.set({"heard": b"1"}))
store.set({"here": b"1"})
threading.Event().wait(60)
"""


@pytest.mark.integration
def test_a_client_that_is_stopped_holds_nobody_up(server):
    """It is served what came meanwhile once it goes on."""
    client = server.client()
    command = [sys.executable, "-c", STANDS_STILL, str(server.address[1])]
    with subprocess.Popen(command) as process:
        assert client.wait(["here"], LONG_S)
        os.kill(process.pid, signal.SIGSTOP)
        for number in range(50):
            client.set({f"k{number}": bytes(100_000)})
        counted = client.add("n", 1)
        os.kill(process.pid, signal.SIGCONT)
        client.set({"end": b"1"})
        heard = client.wait(["heard"], LONG_S)
        process.kill()
    client.close()

    assert (1, [b"1"]) == (counted, heard)


# Strangers.


def test_a_hello_that_comes_in_drops_has_its_time(open_server):
    """Slowloris: each byte is in time, and all of them are not."""
    server = open_server(limits=ClientLimits(hello_s=0.2))
    connection = server.dial()
    hello = write_hello(HELLO)
    sent = 0
    with contextlib.suppress(OSError):
        for byte in hello * 100:
            connection.sendall(bytes([byte]))
            sent += 1
            connection.settimeout(0.01)
            with contextlib.suppress(TimeoutError):
                if not connection.recv(1):
                    break

    assert sent < len(hello)
    assert serves(server)
    connection.close()


def test_half_open_connections_are_let_go(server):
    """Those whose other side has ended its half, and those that were reset."""
    for number in range(40):
        connection = server.dial()
        connection.sendall(write_hello(HELLO)[:number])
        connection.shutdown(socket.SHUT_WR)
        if number % 2:
            connection.close()
        else:
            assert is_closed(connection)

    assert serves(server)


@pytest.mark.parametrize("length", [16 << 10 | 1, 1 << 24, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_huge_length_is_not_waited_for(server, length):
    """Before a hello, a frame may have 16 KiB."""
    connection = server.dial()
    connection.sendall(length.to_bytes(4, "big"))

    assert is_closed(connection)
    assert serves(server)


def test_a_flood_of_connections_keeps_no_node_out(server):
    """The kernel's queue is emptied as fast as strangers fill it."""
    is_over = threading.Event()

    def flood():
        while not is_over.is_set():
            with contextlib.suppress(OSError):
                socket.create_connection(server.address, LONG_S).close()

    floods = [threading.Thread(target=flood) for _ in range(4)]
    for thread in floods:
        thread.start()
    served = [serves(server) for _ in range(10)]
    is_over.set()
    for thread in floods:
        thread.join()

    assert [True] * 10 == served


def test_a_flood_of_requests_delays_others_and_nothing_else(server):
    """Each client is heard in its turn."""
    busy, client = server.welcomed(), server.client()
    ask = write_frame({"id": 1, "do": "get", "keys": []}) * 1000
    is_over = threading.Event()

    def flood():
        with contextlib.suppress(OSError):
            while not is_over.is_set():
                busy.sendall(ask)

    def drain():
        with contextlib.suppress(OSError):
            while busy.recv(1 << 20):
                pass

    threads = [threading.Thread(target=each) for each in (flood, drain)]
    for thread in threads:
        thread.start()
    counts = [client.add("n", 1) for _ in range(20)]
    is_over.set()
    busy.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join()
    busy.close()
    client.close()

    assert list(range(1, 21)) == counts


def test_a_stranger_with_the_name_of_a_session_of_another_run_gets_nothing():
    """Sessions belong to a server; another one does not know them."""
    claim = PortClaim.take()
    where = Endpoint(HERE, claim.port)
    store = StoreConnector(where, True, None, LONG_S, run_id="job")(threading.Event()).store
    answer = dial(Target(where), Hello("other", "x", "5e55", resumes=True), LONG_S, LONG_S)
    store.close()
    claim.release()

    assert isinstance(answer, Refusal)
