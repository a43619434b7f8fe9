"""Endpoints as people write them."""

import pytest
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.network.addresses import NO_PORT, Endpoint, parse_endpoint, parse_endpoints


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
