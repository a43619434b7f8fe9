"""What one client may cost a store server in one turn of its loop."""

import contextlib
import itertools
import selectors
import socket
import sys
import threading

import pytest
from elrun.rendezvous.stores.server.connections import Connections
from elrun.rendezvous.stores.server.entrance import Entrance
from elrun.rendezvous.stores.server.frames import MAX_FRAME_BYTES, FrameReader, write_frame
from elrun.rendezvous.stores.server.guests import ClientLimits
from elrun.rendezvous.stores.server.hello import write_hello
from elrun.rendezvous.stores.server.server import StoreServer
from elrun.rendezvous.stores.server.table import StoreTable
from elrun.rendezvous.stores.server.wire import (
    MAX_VALUE_BYTES,
    Add,
    Get,
    Set,
    Wait,
    write_request,
    write_values,
)
from round_kit import HELLO, AllGuests
from rounds_kit import RUN
from server_kit import LONG_S, serves

READ = selectors.EVENT_READ
MOST_TURNS = 10_000


@pytest.fixture(name="connections")
def _connections():
    """Return connections whose clock goes on by 5 ms at each look."""
    ticks = itertools.count()
    with selectors.DefaultSelector() as selector:
        connections = Connections(
            AllGuests(), Entrance(), "mark", "here", ClientLimits(), selector,
            lambda: 0.005 * next(ticks), lambda: None,
        )  # fmt: skip
        yield connections
        connections.close()


@pytest.fixture(name="client")
def _client(connections):
    """Return a client's end of a connection, which never blocks; its welcome was read."""
    mine, its = socket.socketpair()
    connections.greet(its, "there")
    with mine:
        mine.setblocking(False)
        mine.sendall(write_hello(HELLO))
        connections.attend(peer_of(connections), READ)
        mine.recv(1 << 16)
        yield mine


def peer_of(connections):
    (peer,) = connections._peers.values()
    return peer


def taken(client):
    with contextlib.suppress(BlockingIOError):
        return client.recv(1 << 20)
    return b""


def turns_of(connections, peer, client):
    """Return the answers to what a client has sent, by turns of the server."""
    reader = FrameReader(MAX_FRAME_BYTES)
    turns = []
    for _ in range(MOST_TURNS):
        connections.attend(peer, READ)
        turns.append(list(reader.feed(taken(client))))
        if not connections.unread:
            break
    return turns


def works(connections):
    """Return how many turns it takes to do what is left to be done."""
    for turns in range(MOST_TURNS):
        if not connections.work(connections._clock() + 0.02):
            return turns
    return MOST_TURNS


def test_a_client_that_goes_leaves_its_waits_to_be_forgotten_turn_by_turn(connections, client):
    """Eight that had awaited a million keys held all others up for seconds."""
    peer = peer_of(connections)
    keys = tuple(f"k{number}" for number in range(100))
    client.sendall(write_request(1, Wait(keys)))
    connections.attend(peer, READ)
    table = connections._answers._table
    awaited = table._awaited
    client.shutdown(socket.SHUT_WR)
    connections.attend(peer, READ)
    at_once = 100 - len(table._waits)
    turns = works(connections)

    assert (100, 0) == (awaited, at_once)
    assert 10 < turns < MOST_TURNS
    assert (0, {}, {}) == (table._awaited, table._waits, connections._answers._waits)


def test_waits_that_one_write_ends_are_answered_turn_by_turn(connections, client):
    """Thousands for a large value held all others up for seconds."""
    peer = peer_of(connections)
    waits = [write_request(number, Wait(("k",))) for number in range(1, 21)]
    client.sendall(b"".join([*waits, write_request(21, Set({"k": b"v"}))]))
    reader, answers = (
        FrameReader(MAX_FRAME_BYTES),
        [*itertools.chain(*turns_of(connections, peer, client))],
    )
    at_once = len(answers)
    turns = works(connections)
    answers += reader.feed(taken(client))

    assert ([{"id": 21}], 1) == (answers[:1], at_once)
    assert sorted(answer["id"] for answer in answers) == [*range(1, 22)]
    assert 2 < turns < MOST_TURNS


def test_a_round_is_freed_turn_by_turn(connections):
    """With all its keys, and the waits for other keys of it."""
    table = connections._answers._table
    table.set({RUN.round(0).node(number): b"n" for number in range(100)})
    for number in range(1, 20):
        table.set({RUN.round(number).seats: b"1"})
    left = len(table._values)
    turns = works(connections)

    assert (True, 8) == (left > 100, len(table._values))
    assert 10 < turns < MOST_TURNS


def test_what_a_server_has_to_answer_is_sent_before_it_ends(open_server):
    """As the verdict with which the host of a job leaves."""
    server = open_server()
    waiting = [server.welcomed() for _ in range(20)]
    for connection in waiting:
        connection.sendall(write_request(1, Wait(("verdict",))) + write_request(2, Add("n", 1)))
        assert connection.recv(1 << 16)
    with server.paused():
        end = threading.Thread(target=server.server.close)
        writer = server.server._connections._answers._table
        writer.set({"verdict": b"v"})
        end.start()
    end.join()
    answers = [connection.recv(1 << 16) for connection in waiting]
    for connection in waiting:
        connection.close()

    assert [write_frame({"id": 1, "values": ["dg=="]})] * 20 == answers


def test_many_requests_at_once_are_answered_turn_by_turn(connections, client):
    """In their order, and all of them, though nothing more comes."""
    peer = peer_of(connections)
    client.sendall(b"".join(write_request(number, Add("n", 1)) for number in range(20)))
    turns = turns_of(connections, peer, client)

    assert 2 < len(turns)
    assert all(turns)
    assert [{"id": number, "count": number + 1} for number in range(20)] == [
        *itertools.chain(*turns)
    ]


def test_refused_requests_take_no_longer_than_others(connections, client):
    """Each is refused by its number, and after some the others have their turn."""
    peer = peer_of(connections)
    client.sendall(b"".join(write_frame({"id": number}) for number in range(20)))
    turns = turns_of(connections, peer, client)

    assert 2 < len(turns)
    assert [*range(20)] == [answer["id"] for answer in itertools.chain(*turns)]


def test_a_server_answers_all_that_came_at_once(server):
    """Nothing more comes that would wake it."""
    reader, answers = FrameReader(MAX_FRAME_BYTES), []
    with server.welcomed() as connection:
        connection.settimeout(LONG_S)
        connection.sendall(b"".join(write_request(n, Add("n", 1)) for n in range(4000)))
        while len(answers) < 4000:
            answers += reader.feed(connection.recv(1 << 16))

    assert [{"id": n, "count": n + 1} for n in range(4000)] == answers


def test_a_client_that_goes_in_the_middle_of_its_requests_is_gone(connections, client):
    peer = peer_of(connections)
    client.sendall(write_request(1, Add("n", 1)) * 20)
    connections.attend(peer, READ)
    unread = list(connections.unread.values())
    connections._let_go(peer)
    connections.attend(peer, READ)

    assert [peer] == unread
    assert {} == connections.unread


def test_a_long_answer_is_made_as_its_client_reads_it(connections, client):
    """Behind it wait the answers to what was asked later; all of them come in order."""
    peer = peer_of(connections)
    table = connections._answers._table
    keys = tuple(f"k{number}" for number in range(4))
    table.set(dict.fromkeys(keys, bytes(MAX_VALUE_BYTES)))
    client.sendall(write_request(1, Get(keys)) + write_request(2, Add("n", 1)))
    connections.attend(peer, READ)
    made, queued = len(peer._out), peer.queued
    reader, answers = FrameReader(MAX_FRAME_BYTES), []
    for _ in range(MOST_TURNS):
        connections.attend(peer, selectors.EVENT_WRITE)
        answers += reader.feed(taken(client))
        if not peer.queued:
            break
    answers += reader.feed(taken(client))
    *parts, last = answers

    assert 0 == connections._held == peer.held
    assert made < 2 * MAX_VALUE_BYTES < queued
    assert {"id": 2, "count": 1} == last
    assert [1] * 4 == [len(part["values"]) for part in parts]


def test_an_answer_of_values_that_are_not_there_counts_as_what_it_holds():
    """A client that reads nothing could keep gigabytes of them else."""
    values = [bytes(1 << 17), *[None] * 100_000]

    assert write_values(1, values).size > sys.getsizeof(values)


def test_those_who_ask_for_much_take_turns():
    """Some in each turn of the loop, those first that have waited for the longest."""
    ticks = itertools.count()
    server = StoreServer(AllGuests(), "here", clock=lambda: 0.005 * next(ticks))
    connections, clients = server._connections, []
    connections._answers._table.set({"big": bytes(MAX_VALUE_BYTES)})
    for _ in range(12):
        mine, its = socket.socketpair()
        connections.greet(its, "there")
        mine.sendall(write_hello(HELLO))
        server._turn()
        mine.recv(1 << 16)
        mine.setblocking(False)
        mine.sendall(write_request(1, Get(("big",))))
        server._turn()
        clients.append(mine)
    turns = []
    for _ in range(12):
        for client in clients:
            while taken(client):
                pass
        server._turn()
        turns.append({number for number, client in enumerate(clients) if taken(client)})
    server._release()
    for client in clients:
        client.close()

    assert all(0 < len(turn) < 12 for turn in turns)
    assert {*range(12)} == set().union(*turns)


def test_those_whose_turns_take_long_take_turns():
    """As those whose TLS changes keys: by both clocks of this test, each turn takes 5 ms."""
    ticks = itertools.count()
    clock = lambda: 0.005 * next(ticks)  # noqa: E731
    server = StoreServer(AllGuests(), "here", clock=clock, cpu_clock=clock)
    clients, turns = [], []
    for _ in range(12):
        mine, its = socket.socketpair()
        server._connections.greet(its, "there")
        mine.sendall(write_hello(HELLO))
        server._turn()
        for number in (
            1,
            2,
        ):  # the duration of the first is too long, and the CPU time of the second
            mine.recv(1 << 16)
            mine.sendall(write_request(number, Add("n", 1)))
            server._turn()
        mine.recv(1 << 16)
        mine.setblocking(False)
        clients.append(mine)
    for client in clients:
        client.sendall(write_request(3, Add("n", 1)))
    for _ in range(12):
        server._turn()
        turns.append({number for number, client in enumerate(clients) if taken(client)})
    server._release()
    for client in clients:
        client.close()

    assert all(len(turn) < 6 for turn in turns)
    assert {*range(12)} == set().union(*turns)


@pytest.fixture(name="strangers")
def _strangers():
    """Return a server by whose clock each turn of a client takes 5 ms or more, and 12 strangers.

    Each of them has sent the first byte of a hello. Who comes later is added to them.
    """
    ticks = itertools.count()
    server = StoreServer(
        AllGuests(), "here", ClientLimits(hello_s=1e6), lambda: 0.005 * next(ticks)
    )
    clients = []
    for _ in range(12):
        mine, its = socket.socketpair()
        server._connections.greet(its, "there")
        mine.sendall(write_hello(HELLO)[:1])
        clients.append(mine)
    yield server, clients
    server._release()
    for client in clients:
        client.close()


def test_strangers_get_a_part_of_a_turn(strangers):
    """As each may make the server compute for 2 ms."""
    server, _ = strangers
    heard = []
    peers = [*server._connections._peers.values()]
    while not heard or (heard[-1] < 12 and len(heard) < 12):
        server._turn()
        heard.append(sum(peer.first_bytes != b"" for peer in peers))

    assert 0 < heard[0] < 6
    assert 12 == heard[-1]


def test_a_stranger_that_speaks_all_the_time_keeps_no_other_from_being_heard(strangers):
    """Whoever has waited for the longest is first."""
    server, clients = strangers
    hello = write_hello(HELLO)
    peers = [*server._connections._peers.values()]
    for number in range(1, 12):
        server._turn()
        for client in clients[:6]:
            client.sendall(hello[number : number + 1])

    assert [True] * 12 == [peer.first_bytes != b"" for peer in peers]


def test_no_stranger_is_accepted_before_those_who_wait_are_heard(strangers):
    """They would make room for it, and a node among them would not have had its turn."""
    server, clients = strangers
    seen = []
    peers = [*server._connections._peers.values()]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        server._door.set_listener(listener, 0.0)
        while len(seen) < 12:
            for _ in range(4):
                clients.append(socket.create_connection(listener.getsockname(), LONG_S))
            server._turn()
            unheard = sum(peer.first_bytes == b"" for peer in peers)
            seen.append((unheard, len(server._connections._peers) - len(peers)))

    assert [] == [
        (unheard, after - before)
        for (_, before), (unheard, after) in itertools.pairwise(seen)
        if unheard and after > before
    ]
    assert (0, True) == (seen[-1][0], seen[-1][1] > 0)


def test_a_client_that_is_quick_again_is_like_others(connections, client):
    """It may have asked for much once."""
    peer = peer_of(connections)
    peer.note_turn(0.02)
    peer.note_turn(0.02)
    after_two = peer.is_costly
    for _ in range(100):
        peer.note_turn(0.0001)

    assert (True, False, False) == (after_two, peer.is_costly, peer.is_measured)


def test_no_client_counts_as_slow_because_the_machine_is_busy(connections, client):
    """Each turn takes 5 ms by the clock, and next to nothing of the CPU."""
    peer, seen = peer_of(connections), set()
    connections._cpu_clock = lambda: 1.0
    for number in range(1, 100):
        client.sendall(write_request(number, Add("n", 1)))
        connections.attend(peer, READ)
        seen.add((taken(client) != b"", peer.is_costly))

    assert {(True, False)} == seen


def test_what_the_entrance_of_a_client_takes_does_not_count(connections, client):
    """A handshake of TLS takes 2 ms: all nodes of a job would be behind strangers else."""
    peer = peer_of(connections)

    assert (False, False) == (peer.is_measured, peer.is_costly)


def test_clients_that_ask_for_little_are_served_among_those_that_ask_for_much(open_server):
    server = open_server()
    writer = server.client()
    writer.set({"big": bytes(MAX_VALUE_BYTES)})
    greedy = [server.welcomed() for _ in range(8)]
    for connection in greedy:
        connection.sendall(write_frame({"id": 1, "do": "get", "keys": ["big"]}) * 16)

    assert serves(server)
    assert [True] * 8 == [connection.recv(4) != b"" for connection in greedy]
    for connection in greedy:
        connection.close()
    writer.close()


def test_the_awaited_keys_of_rounds_are_forgotten_with_their_waits():
    """However a wait ends: by its keys, by its client, or with its round."""
    table = StoreTable()
    keys = [RUN.round(number).verdict for number in range(4)]
    waits = [[table.wait(client, [key]) for client in range(2)] for key in keys]
    table.forget(waits[0][0])
    table.set({keys[1]: b"1"})
    ended = [*filter(None, table.work())]
    for number in range(2, 12):
        table.set({RUN.round(number).seats: b"1"})
    lost = {*filter(None, table.work())}
    for wait in {waits[0][1], *waits[1], *waits[2], *waits[3]}:
        table.forget(wait)
    assert {None} == {*table.work()}

    assert set(waits[1]) == set(ended)
    assert {waits[0][1], *waits[2]} == lost - {*waits[3]}
    assert ({}, 0, 0) == (table._waits, table._awaited, table._awaited_characters)
