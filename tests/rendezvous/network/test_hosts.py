"""Which addresses are this machine's, and how others reach it."""

import socket
import subprocess
import sys

import pytest
from elrun.rendezvous.network.addresses import Endpoint, is_loopback
from elrun.rendezvous.network.hosts import (
    address_now,
    address_towards,
    addresses_of,
    as_resolvers_take_it,
    default_address,
    host_of,
    is_local,
    keep_alive,
    published_address,
    socket_address,
)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.3.2.1", "::1", socket.gethostname()]
)
def test_this_machine_knows_itself(host):
    """By any loopback address, and by its name."""
    assert is_local(host)


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])
def test_other_machines_are_not_this_one(host):
    """Neither an address of nobody nor a name that nobody knows."""
    assert not is_local(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("port", [29400, 0])
def test_this_machine_is_reached_over_its_loopback(host, port):
    """The way to oneself leads through no interface."""
    assert is_loopback(address_towards(host, port))


@pytest.fixture(name="link_address")
def _link_address():
    """Return an address of this host that means nothing without its zone."""
    with open("/proc/net/if_inet6", encoding="ascii") as file:
        for line in file:
            digits, _, _, _, _, name = line.split()
            if digits.startswith("fe80"):
                address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
                return f"{address}%{name}"
    pytest.skip("no interface here has a link-local address")


def test_an_address_of_a_link_keeps_its_zone(link_address):
    """Without it, nobody could connect there."""
    found = [address for _, address in addresses_of(link_address)]

    assert ([link_address], True, link_address) == (
        found,
        is_local(link_address),
        address_towards(link_address, 1),
    )


def test_a_server_may_listen_at_an_address_of_a_link(link_address):
    """And be connected to, by what it says of itself."""
    with socket.create_server(socket_address(link_address, 0), family=socket.AF_INET6) as server:
        where = server.getsockname()
        with socket.create_connection((host_of(where), where[1])) as client:
            assert link_address == host_of(client.getpeername())


def test_a_zone_that_is_not_there_leads_nowhere():
    """It is a typing error, or another host's."""
    with pytest.raises(OSError, match="no interface|No such device"):  # by the Python
        socket_address("fe80::1%nowhere", 1)
    assert not is_local("fe80::1%nowhere")


def test_no_address_is_told_where_no_interface_leads_elsewhere():
    """A loopback address would lead each node to itself."""
    assert [None, None] == [address_now(Endpoint(host, 1), None) for host in ("::1", "127.0.0.1")]


NAME_NOW = """
import sys
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.network.hosts import address_now

sys.addaudithook(lambda event, _: event.startswith("socket.") and print(event))
print(address_now(Endpoint("localhost", 1), None))
"""


def test_the_present_address_of_a_name_is_not_asked_for():
    """A name server that is silent would hold the node for half a minute."""
    assert "None\n" == subprocess.check_output([sys.executable, "-c", NAME_NOW], text=True)


def test_an_address_that_the_user_gave_stands():
    """Whatever interface leads elsewhere by now."""
    elsewhere = Endpoint("192.0.2.1", 1)

    assert address_now(elsewhere, "10.0.0.1") is None


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("localhost", "127.0.0.1")],
)
def test_the_published_address_is_that_of_the_interface_that_led_there(host, address):
    """The other nodes reach the endpoint too, so they reach its network."""
    assert published_address(Endpoint(host, 1), None) == address


def test_a_name_that_leads_back_to_its_host_is_published_as_it_is():
    """Debian's hosts know themselves as 127.0.1.1, where no other node would find them."""
    assert not is_loopback(published_address(Endpoint(socket.gethostname(), 1), None))


@pytest.mark.parametrize(
    ("local_addr", "warnings"),
    [
        ("127.0.0.1", []),
        ("192.0.2.7", ["--local-addr 192.0.2.7 is no address of this host"]),
        ("nowhere.invalid", ["--local-addr nowhere.invalid is no known name"]),
    ],
)
def test_an_address_that_the_user_gave_is_published_as_it_is(local_addr, warnings, caplog):
    """With a warning if it seems to be another host's: a router may know better."""
    published = published_address(Endpoint("::1", 1), local_addr)

    said = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert (local_addr, warnings) == (published, said)


def test_an_unknown_name_leads_nowhere():
    """The error names it."""
    with pytest.raises(OSError, match="nowhere.invalid"):
        address_towards("nowhere.invalid", 1)


def test_the_default_address_is_this_machines():
    """Others would find this node there."""
    assert is_local(default_address())


@pytest.mark.parametrize(
    ("host", "taken"),
    [
        ("node-1.example", b"node-1.example"),
        ("fe80::1%eth0", b"fe80::1%eth0"),
        ("node-1.example.", b"node-1.example."),
        ("a" * 63, b"a" * 63),
        ("a" * 64, "a" * 64),
        ("node..example", "node..example"),
        ("", ""),
        ("bücher.example", "bücher.example"),
    ],
)
def test_a_plain_name_needs_no_codec(host, taken):
    """Others stay text, which is refused or encoded where they are looked up."""
    assert taken == as_resolvers_take_it(host)


def test_a_look_up_loads_no_codec():
    """Half a megabyte of an agent's memory would be its."""
    code = (
        "import sys; from elrun.rendezvous.network.hosts import addresses_of;"
        "print(bool(addresses_of('localhost')), 'encodings.idna' in sys.modules)"
    )

    shown = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)

    assert b"True False\n" == shown.stdout


def test_a_host_that_is_gone_is_found_out_within_a_minute():
    """The kernel counts from the last byte that came: the silence, then each question in vain."""
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    with socket.socket() as connection:
        keep_alive(connection)
        idle_s, interval_s, count = (
            connection.getsockopt(socket.IPPROTO_TCP, option) for option in options
        )

    assert 60 == idle_s + interval_s * count
