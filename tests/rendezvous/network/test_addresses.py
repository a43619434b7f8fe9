"""Endpoints as people write them, and which addresses are this machine's."""

import socket

import pytest
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.network.addresses import (
    NO_PORT,
    Endpoint,
    address_towards,
    addresses_of,
    default_address,
    host_of,
    is_local,
    is_loopback,
    parse_endpoint,
    parse_endpoints,
    published_address,
    socket_address,
)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("node1", "node1", NO_PORT),
        ("node1:1", "node1", 1),
        (" node1:65535 ", "node1", 65535),
        ("localhost:0", "localhost", 0),
        ("10.0.0.1:29500", "10.0.0.1", 29500),
        ("[::1]:29500", "::1", 29500),
        ("[fe80::1]", "fe80::1", NO_PORT),
        ("::1", "::1", NO_PORT),
        ("[fe80::1%eth0]:29500", "fe80::1%eth0", 29500),
        ("fe80::1%eth0", "fe80::1%eth0", NO_PORT),
    ],
)
def test_an_endpoint_is_a_host_and_perhaps_a_port(text, host, port):
    """IPv6 addresses stand in brackets if there is a port."""
    assert (host, port) == parse_endpoint(text)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "names no host"),
        (":29400", "names no host"),
        ("node1:", "'' is no port"),
        ("node1:http", "'http' is no port"),
        ("node1:70000", "'70000' is no port; give 0 to 65535"),
        ("node1:-1", "'-1' is no port"),
        ("node1:٣", "is no port"),
        ("::1:29400", r"give HOST:PORT; an IPv6 address stands in brackets"),
        ("[node1]:29400", r"write an IPv6 address as \[::1\]:29400"),
        ("[::1:29400", r"write an IPv6 address as"),
        ("[::1]29400", r"write an IPv6 address as"),
        ("[fe80::1%]:29400", r"write an IPv6 address as"),
        ("[10.0.0.1%eth0]:29400", r"write an IPv6 address as"),
        ("http://node1:29400", "no URL"),
        ("node 1", "no spaces"),
        ("29400", "the host is missing"),
        ("me@node1:29400", "can't be a host name"),
        ("node1:29400:x", "give HOST:PORT"),
    ],
)
def test_what_is_no_endpoint_is_refused(text, match):
    """The sentence quotes the text and says what would be right."""
    with pytest.raises(ValueError, match=match):
        parse_endpoint(text)


@pytest.mark.parametrize("host", ["a\0b", "a\udcffb", "a\nb", "a\u202eb"])
def test_what_can_be_no_host_is_refused_at_the_door(host):
    """As an endpoint, and as this node's own address."""
    with pytest.raises(ValueError, match="can't be a host name"):
        parse_endpoint(f"{host}:29400")
    with pytest.raises(ValueError, match="local_addr=.*: give a host's name or address"):
        RendezvousParameters("c10d", "h:1", "run", 1, 1, local_addr=host)


@pytest.mark.parametrize(
    "text", ["node1:29400", "[::1]:29400", "[fe80::1%eth0]:29400", "node1", "[::1]"]
)
def test_an_endpoint_reads_as_it_is_written(text):
    """Its text parses to itself."""
    assert text == str(parse_endpoint(text))


def test_endpoints_are_a_list():
    """Spaces around them mean nothing, nor does a comma too many."""
    expected = (Endpoint("a", 1), Endpoint("b", NO_PORT), Endpoint("::1", 2))

    assert expected == parse_endpoints(" a:1, b ,,[::1]:2,")


@pytest.mark.parametrize("text", ["", ",", " , "])
def test_no_endpoint_is_none(text):
    """A list names one at least."""
    with pytest.raises(ValueError, match="names no host"):
        parse_endpoints(text)


def test_a_backend_s_port_stands_where_none_is_given():
    """The backend's parameters parse the text once, and again only if it was changed."""
    default = Endpoint("localhost", 7)
    params = RendezvousParameters("c10d", "h,i:8", "run", 1, 1)
    first = params.endpoints(default)
    params.endpoint = ""

    assert (Endpoint("h", 7), Endpoint("i", 8)) == first
    assert (default,) == params.endpoints(default)


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
