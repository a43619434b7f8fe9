"""What can go wrong between a store and a real etcd, over both of its APIs."""

import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.backends.registry import get_rendezvous_handler
from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.stores.etcd.failover import Unreachable
from elrun.rendezvous.stores.etcd.server import EtcdServer
from etcd_kit import RUN, EtcdClients

pytestmark = pytest.mark.integration

LONG_S = 30
BACKENDS = ["etcd-v3", "etcd-v2"]


@pytest.fixture(params=["etcd_v3", "etcd_v2"], name="clients")
def _clients(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(params=BACKENDS, name="own")
def _own(request, tmp_path):
    """Return a server that a test may kill, and clients of it."""
    server = EtcdServer(v2=request.param == "etcd-v2", data_dir=str(tmp_path))
    server.start()
    port = server.get_port()
    again = EtcdServer(v2=request.param == "etcd-v2", data_dir=str(tmp_path), port=port)
    clients = EtcdClients(request.param, server.get_endpoint())
    yield server, again, clients
    clients.close()
    server.stop()
    again.stop()


class Deaf:
    """Asks a member of etcd, and loses the first reply to each kind of call."""

    def __init__(self, client, losses=1):
        self.client = client
        self.losses = losses

    def __getattr__(self, name):
        method = getattr(self.client, name)
        if name not in ("post", "ask"):
            return method

        def ask(*args, **kwargs):
            answer = method(*args, **kwargs)
            if self.losses:
                self.losses -= 1
                raise Unreachable("the reply was lost")
            return answer

        return ask


@pytest.fixture(name="deaf")
def _deaf(clients):
    """Return a store that is about to lose a reply."""
    (client,) = clients.clients()
    deaf = Deaf(client, losses=0)
    store = clients.connect([deaf])
    deaf.losses = 1
    return store


def test_a_lost_reply_does_not_count_twice(deaf):
    """The counter says what was asked for once."""
    first = deaf.add("n", 1)

    assert (1, 2) == (first, deaf.add("n", 1))


def test_a_lost_reply_gives_the_number_that_was_taken(deaf, clients):
    """Even if others have counted on meanwhile."""
    other = clients.connect()
    client = deaf._servers._clients[0]
    taken = []

    def lose_after_another(*args, **kwargs):
        client.losses = 0
        answer = type(client.client).__dict__[name](client.client, *args, **kwargs)
        taken.append(other.add("n", 1))
        setattr(client, name, getattr(client.client, name))
        del answer
        raise Unreachable("the reply was lost")

    name = "post" if hasattr(client.client, "post") else "ask"
    setattr(client, name, lose_after_another)

    assert (1, [2]) == (deaf.add("n", 1), taken)


def test_a_lost_reply_leaves_the_creator_its_success(deaf):
    """Who has created a value is told its own."""
    assert b"mine" == deaf.create("k", b"mine")


def test_a_lost_reply_of_a_write_is_no_loss(deaf):
    """Writing twice is writing once."""
    deaf.set({"k": b"1", "l": b"2"})

    assert [b"1", b"2"] == deaf.get(["k", "l"])


@pytest.mark.parametrize("count", [130, 300])
def test_many_values_fit(clients, count):
    """More than etcd takes in one transaction."""
    store = clients.connect()
    values = {f"many/{n}": b"%d" % n for n in range(count)}
    store.set(values)

    assert (list(values.values()), list(values.values())) == (
        store.get(list(values)),
        store.wait(list(values), LONG_S),
    )


def test_a_large_value_fits(clients):
    """An outcome of 1 MiB, of any bytes."""
    store = clients.connect()
    value = os.urandom(1 << 20)
    store.set({"a": value, "b": value})

    assert [value, value] == store.wait(["a", "b"], LONG_S)


def test_a_large_value_reaches_who_waits(clients):
    """Also by way of the watch."""
    store = clients.connect()
    value = os.urandom(1 << 20)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.wait, ["a", "b"], LONG_S)
        store.set({"a": value})
        store.set({"b": b"2"})

        assert [value, b"2"] == waiting.result(LONG_S)


@pytest.mark.parametrize(
    "key",
    ["run/a b/x", "run/ü#?&/x", "run/../x", "run/_hidden/_x", "run//x", "run/%2F~=/x", "run/x/"],
)
def test_any_text_is_a_key(clients, key):
    """What people call their jobs may hold any character."""
    store = clients.connect()
    store.set({key: b"1"})

    assert [[b"1"], [None], 5] == [
        store.get([key]),
        store.get([key + "y"]),
        store.add(key + "counter", 5),
    ]


def test_a_wait_for_a_counter_returns_its_digits(clients):
    """Waiting reads counters as values, too."""
    store = clients.connect()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.wait, ["n", "k"], LONG_S)
        store.add("n", 3)
        store.set({"k": b"1"})

        assert [b"3", b"1"] == waiting.result(LONG_S)


def test_a_wait_returns_the_newest_value(clients):
    """A value that is rewritten while another one is awaited is not returned as it was."""
    store = clients.connect()
    store.set({"a": b"old"})
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.wait, ["a", "b"], LONG_S)
        store.set({"a": b"new"})
        store.set({"b": b"1"})

        assert [b"new", b"1"] == waiting.result(LONG_S)


def test_a_wait_in_v2_returns_what_stood_there_at_one_instant(etcd_v2, monkeypatch):
    """Both keys are written between the wait's read of the first and its read of the second."""
    store, other = etcd_v2.connect(), etcd_v2.connect()
    store.set({"a": b"old"})
    read = store._list
    places = []

    def read_slowly(place):
        if len(places) == 1:
            other.set({"a": b"new"})
            other.set({"b": b"1"})
        places.append(place)
        return read(place)

    monkeypatch.setattr(store, "_list", read_slowly)

    assert [b"new", b"1"] == store.wait(["a", "b"], LONG_S)


def test_other_keys_of_a_folder_prolong_no_wait_in_v2(etcd_v2, monkeypatch):
    """Keys of nodes that beat stand beside those that are read, and change all the time."""
    store, other = etcd_v2.connect(), etcd_v2.connect()
    keys = ["one/key", *[f"many/{number}" for number in range(8)]]
    store.set(dict.fromkeys(keys, b"1"))
    read = store._list
    places = []

    def read_beside(place):
        other.set({"many/beat": b"%d" % len(places)})
        places.append(place)
        return read(place)

    monkeypatch.setattr(store, "_list", read_beside)

    assert [b"1"] * 9 == store.wait(keys, 2)
    assert 2 == len(places)


def test_a_short_absence_ends_nothing(own):
    """etcd is killed and started again: a wait goes on, and counters keep their values."""
    server, again, clients = own
    store = clients.connect()
    store.add("n", 41)
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(store.wait, ["late"], LONG_S)
        store.wait(["never"], 0.1)
        server.stop()
        restarting = pool.submit(again.start)
        counted = store.add("n", 1)
        restarting.result(LONG_S)
        store.set({"late": b"1"})

        assert (42, [b"1"]) == (counted, waiting.result(LONG_S))


def test_a_long_absence_is_an_error_with_the_endpoint(own):
    """It comes to those who ask and to those who wait."""
    server, _, clients = own
    store = clients.connect(patience_s=0.3)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.wait, ["never"], None)
        endpoint = server.get_endpoint()
        store.wait(["never"], 0.1)
        server.stop()

        with pytest.raises(RendezvousConnectionError, match=f"etcd at {endpoint} .*refused"):
            store.get(["k"])
        with pytest.raises(RendezvousConnectionError, match=f"etcd at {endpoint}"):
            waiting.result(LONG_S)


def test_an_etcd_that_hangs_is_noticed(own):
    """A wait has no answer to miss; the pulse has."""
    server, _, clients = own
    store = clients.connect(patience_s=0.3, pulse_s=0.1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.wait, ["never"], None)
        store.wait(["never"], 0.1)
        group = server._process.pid
        os.killpg(group, signal.SIGSTOP)
        try:
            with pytest.raises(RendezvousConnectionError, match="does not answer"):
                waiting.result(LONG_S)
        finally:
            os.killpg(group, signal.SIGCONT)


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_a_member_that_is_down_is_passed_over(clients, order):
    """With several endpoints, one that serves is enough, wherever it stands."""
    live = str(clients.settings.endpoints[0])
    backend = "etcd-v3" if clients.store.__name__ == "EtcdV3Store" else "etcd-v2"
    several = EtcdClients(backend, ",".join(["127.0.0.1:1", live][order]), clients.prefix)
    store = several.connect()
    store.set({"k": b"1"})

    assert [b"1"] == store.wait(["k"], LONG_S)
    several.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_nobody_at_the_endpoint_is_an_error_with_its_name(backend):
    """The sentence comes after the time for joining."""
    handler = get_rendezvous_handler(
        RendezvousParameters(backend, "127.0.0.1:1", "run", 1, 1, join_timeout="0.1")
    )

    with pytest.raises(RendezvousConnectionError, match="etcd at 127.0.0.1:1 could not be reached"):
        handler.next_rendezvous()


def test_keys_stay_while_a_node_lives(clients):
    """Its pulse refreshes them, whoever wrote them."""
    writer = clients.connect(lease_s=2, pulse_s=LONG_S)
    reader = clients.connect(lease_s=2, pulse_s=0.2)
    writer.set({f"{RUN}/k": b"1"})
    writer.close()
    reader.wait(["never"], 4)

    assert [b"1"] == reader.get([f"{RUN}/k"])


def test_keys_vanish_when_nobody_lives(clients):
    """A run that is over is unknown to the next one of this name, which begins anew."""
    writer = clients.connect(lease_s=2, pulse_s=LONG_S)
    writer.set({f"{RUN}/k": b"1"})
    writer.close()
    seen = []
    while seen[-1:] != [None]:
        newcomer = clients.connect(lease_s=2, pulse_s=LONG_S)
        newcomer.wait(["never"], 0.2)
        seen += newcomer.get([f"{RUN}/k"])
        newcomer.close()

    assert b"1" == seen[0]


def test_v2_is_swept_when_a_run_begins(etcd_v2):
    """What a run left that nobody took up again does not stay for ever."""
    writer = etcd_v2.connect(lease_s=1, pulse_s=LONG_S)
    writer.set({f"{RUN}/k": b"1"})
    folders = {writer._folder}
    while len(folders) == 1:
        writer.wait(["never"], 0.2)
        folders.add(etcd_v2.connect(lease_s=1, pulse_s=LONG_S)._folder)

    assert not writer._list(etcd_v2.prefix + writer._folder)[0]


def test_a_run_that_etcd_forgot_is_lost(clients):
    """Nodes that were gone too long find that out, and don't go on alone."""
    store = clients.connect(lease_s=1, pulse_s=5)

    with pytest.raises(RendezvousConnectionError, match="has forgotten this run"):
        store.wait(["never"], LONG_S)


def test_a_watch_that_is_too_old_reads_anew(etcd_v3):
    """What etcd has compacted is no obstacle."""
    store = etcd_v3.connect()
    store.set({"k": b"1"})
    (gateway,) = store._clients
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.wait, ["k", "late"], LONG_S)
        store.wait(["never"], 0.1)
        for _ in range(3):
            store.set({"other": b"1"})
        _, revision = store._read(["k"])
        gateway.post("kv/compaction", {"revision": str(revision)})
        store.wait(["never either"], 0.1)
        store.set({"late": b"2"})

        assert [b"1", b"2"] == waiting.result(LONG_S)


def test_v2_on_an_etcd_without_it_says_what_to_do(etcd_server):
    """As on etcd 3.6."""
    with pytest.raises(
        RendezvousConnectionError, match="has no v2 API: give --rdzv-backend etcd-v"
    ):
        EtcdClients("etcd-v2", etcd_server.get_endpoint()).connect()


@pytest.mark.parametrize(("backend", "notices"), [("etcd", 1), ("etcd-v2", 0), ("etcd-v3", 0)])
def test_the_old_name_is_said_to_be_old_once(etcd_v2_server, backend, notices, caplog):
    """It means v2, as always."""
    parameters = RendezvousParameters(backend, etcd_v2_server.get_endpoint(), backend, 1, 1)
    handler = get_rendezvous_handler(parameters)
    rank = handler.next_rendezvous().rank
    handler.shutdown()

    assert (0, notices) == (rank, caplog.text.count("deprecated: give etcd-v2, or etcd-v3"))


def test_closing_leaves_no_thread_of_v3(etcd_v3):
    """Neither the pulse's nor a watch's."""
    before = set(threading.enumerate())
    store = etcd_v3.connect(pulse_s=0.01)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.wait, ["never"], None)
        store.wait(["never"], 0.05)
        mine = set(threading.enumerate()) - before
        store.close()
        waiting.exception(LONG_S)
    for thread in mine:
        thread.join(LONG_S)

    assert [False] * len(mine) == [thread.is_alive() for thread in mine]


def test_a_member_that_was_reached_is_found_again_without_a_name_server(clients, monkeypatch):
    """A call needs a further connection while the others are in use, or if they have ended."""
    names, look_up = [], socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **kind: names.append(host) or look_up(host, *rest, **kind),
    )
    port = clients.settings.endpoints[0].port
    clients.settings = replace(clients.settings, endpoints=(Endpoint("localhost", port),))
    (client,) = clients.clients()
    store = clients.connect([client])
    store.set({"k": b"1"})
    before = names.copy()

    client.close()  # its idle connections
    found = store.get(["k"])

    assert ([b"1"], True) == (found, "localhost" in before)
    assert len(names) > len(before)
    assert "localhost" not in names[len(before) :]
