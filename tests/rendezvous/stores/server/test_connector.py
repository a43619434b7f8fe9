"""The way to a store server: which node hosts it, which reach it, and what is said if none does."""

import os
import socket
import threading

import pytest
from connector_kit import HERE, node
from elrun.rendezvous.errors import RendezvousClosedError, RendezvousConnectionError
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.stores.server.connector import StoreConnector
from round_kit import PATIENCE_S

pytestmark = pytest.mark.integration

ME = rf".+ \(pid {os.getpid()}\)"


@pytest.fixture(name="reach")
def _reach(port):
    """Return what reaches the endpoint, and close all that it reached."""
    connections = []

    def reach(host=HERE, *, port=port, is_host=None, local_addr=None, timeout_s=PATIENCE_S):
        connection = StoreConnector(Endpoint(host, port), is_host, local_addr, timeout_s)(
            threading.Event()
        )
        connections.append(connection)
        return connection

    yield reach
    for connection in reversed(connections):
        connection.store.close()


def listener(host, port, backlog=5):
    sock = socket.create_server((host, port), backlog=backlog)
    sock.settimeout(PATIENCE_S)
    return sock


def test_the_first_agent_at_the_endpoint_hosts_and_the_second_connects(reach):
    """On one host, whoever is first serves the others."""
    first, second = reach(), reach()
    first.store.set({"k": b"v"})

    assert (True, False, [b"v"]) == (first.is_host, second.is_host, second.store.get(["k"]))


def test_port_0_is_any_free_port(reach):
    """A node that meets nobody needs no port of its own choice."""
    connection = reach(port=0)
    connection.store.set({"k": b"v"})

    assert (True, [b"v"]) == (connection.is_host, connection.store.get(["k"]))


@pytest.mark.parametrize("host", ["localhost", "::1", socket.gethostname()])
def test_names_and_ipv6_are_hosted_too(reach, host):
    """Whatever the endpoint is called, both sides find each other there."""
    if host == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    reach(host).store.set({"k": b"v"})

    assert [b"v"] == reach(host).store.get(["k"])


def test_an_address_is_served_on_its_interface_only(reach, port):
    """Other interfaces don't answer."""
    reach("127.0.0.1")

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), PATIENCE_S)


def test_the_published_address_leads_to_the_endpoint_or_is_what_was_given(reach):
    """--local-addr goes before what elrun finds out."""
    assert (HERE, "10.1.2.3") == (reach().address, reach(local_addr="10.1.2.3").address)


def test_the_last_jobs_connections_do_not_hold_the_port(reach):
    """A new job may host where another has just ended."""
    first, second = reach(), reach()
    first.store.close()  # the side that closes first keeps the port in TIME_WAIT
    second.store.close()

    assert reach(is_host=True).is_host


def test_a_busy_port_is_named_where_this_node_must_host(reach, port):
    """is_host=true leaves no doubt: the port must be free."""
    with (
        listener(HERE, port),
        pytest.raises(
            RendezvousConnectionError,
            match=f"can't be hosted at {HERE}:{port}: port {port} of this host is held by {ME}",
        ),
    ):
        reach(is_host=True)


def test_another_program_at_the_endpoint_is_told_apart(reach, port):
    """A program that takes connections and says nothing does not hold elrun up for good."""
    with (
        listener(HERE, port),
        pytest.raises(
            RendezvousConnectionError,
            match=f"but not as the rendezvous of an elrun job; port {port} .* held by {ME}",
        ),
    ):
        reach(timeout_s=1)


def test_a_port_that_is_held_but_silent_is_named(reach, port):
    """Neither can this node host there, nor does anybody answer."""
    with socket.socket() as holder:
        holder.bind((HERE, port))
        with pytest.raises(
            RendezvousConnectionError,
            match=f"within 0.2 s: .* port {port} of this host is held by another program",
        ):
            reach(timeout_s=0.2)


def test_an_endpoint_that_is_not_there_yet_is_told_of_once(caplog):
    """A misspelt name should not take ten minutes to be seen."""
    reach = StoreConnector(Endpoint("nowhere.invalid", 1), None, None, 0.5, notice_s=0.1)
    with pytest.raises(RendezvousConnectionError):
        reach(threading.Event())

    (record,) = caplog.records
    assert record.getMessage().startswith(
        "the rendezvous at nowhere.invalid:1 is not there yet: "
        "the name nowhere.invalid can't be resolved"
    )


def test_an_endpoint_that_never_answers_is_named(reach, port):
    """The sentence says where, for how long, why, and what to look at."""
    with pytest.raises(
        RendezvousConnectionError,
        match=f"at {HERE}:{port} could not be reached within 0.2 s: Connection refused; is elrun",
    ):
        reach(is_host=False, timeout_s=0.2)


def test_a_name_that_nobody_knows_is_named(reach):
    """A misspelt host is told as such."""
    with pytest.raises(RendezvousConnectionError, match="the name nowhere.invalid can't be resolv"):
        reach("nowhere.invalid", timeout_s=0.2)


def test_a_name_that_is_known_only_later_makes_its_node_the_host(reach, monkeypatch):
    """The DNS of a headless service knows a pod some seconds after that has started."""
    asked = []
    look_up = socket.getaddrinfo

    def resolve(host, *args, **options):
        if host != b"job-0.headless":
            return look_up(host, *args, **options)
        asked.append(host)
        if len(asked) < 8:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(HERE, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    assert reach("job-0.headless").is_host


def test_an_agent_that_stops_gives_up_reaching(port):
    """A signal need not wait for the join timeout."""
    stop = threading.Event()
    stop.set()

    with pytest.raises(RendezvousClosedError, match=f"gave up reaching {HERE}:{port}"):
        StoreConnector(Endpoint(HERE, port), False, None, PATIENCE_S)(stop)


def test_an_agent_that_comes_before_the_host_waits_for_it(reach, port):
    """The order in which nodes start does not matter."""
    guests = []
    early = threading.Thread(target=lambda: guests.append(reach(is_host=False)))
    with socket.socket() as probe:  # nobody is there yet
        assert probe.connect_ex((HERE, port))
    early.start()
    reach(is_host=True).store.set({"k": b"v"})
    early.join(PATIENCE_S)

    assert [b"v"] == guests[0].store.get(["k"])


@pytest.fixture(name="of_run")
def _of_run(port):
    """Return what reaches the endpoint as a node of a run, and close all that it reached."""
    connections = []

    def of_run(name, timeout_s=PATIENCE_S, **options):
        reach = StoreConnector(Endpoint(HERE, port), None, None, timeout_s, run_id=name, **options)
        connections.append(reach(threading.Event()))
        return connections[-1]

    yield of_run
    for connection in reversed(connections):
        connection.store.close()


def test_another_run_does_not_settle_in_a_store_that_will_end(of_run, port):
    """The sentence names the run that lives there, and what to do."""
    of_run("first")

    with pytest.raises(
        RendezvousConnectionError,
        match=f"{HERE}:{port} could not be reached within 0.3 s: it is the store of run 'first', ",
    ):
        of_run("second", 0.3)


def test_another_run_moves_in_once_the_first_has_ended(of_run, caplog):
    """It is told at once why it waits, and hosts its own store there."""
    first = of_run("first")
    seconds = []
    waiting = threading.Thread(target=lambda: seconds.append(of_run("second")))
    waiting.start()
    while "it is the store of run 'first', and ends with that run" not in caplog.text:
        threading.Event().wait(0.01)
    first.store.close()
    waiting.join(PATIENCE_S)

    assert [True] == [second.is_host for second in seconds]
    assert not of_run("second").is_host


def test_a_run_of_one_node_serves_elsewhere(of_run, port):
    """Nobody has to find it."""
    of_run("first")
    second = of_run("second", is_alone=True)
    second.store.set({"k": b"v"})

    assert (True, [b"v"]) == (second.is_host, second.store.get(["k"]))


@pytest.mark.parametrize(
    ("endpoint", "config", "match"),
    [
        ("h:70000", {}, "'70000' is no port"),
        ("a:1,a:1", {}, "one of them is named twice"),
        ("h:0", {}, "port 0 is known to no other node"),
        ("h:1", {"is_host": "maybe"}, "is_host=maybe"),
        ("h:1", {"join_timeout": "soon"}, "join_timeout=soon"),
        ("h:1", {"last_call_timeout": "-1"}, "last_call_timeout=-1"),
    ],
)
def test_what_cannot_be_an_endpoint_or_a_setting_is_refused_at_once(endpoint, config, match):
    """Before anything is connected, a ValueError says what is wrong."""
    with pytest.raises(ValueError, match=match):
        node(endpoint, **config)
