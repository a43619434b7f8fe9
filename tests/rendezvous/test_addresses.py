"""Endpoints as people write them, and which addresses are this machine's."""

import socket

import pytest
from elrun.rendezvous.addresses import (
    Endpoint,
    address_towards,
    default_address,
    is_local,
    is_loopback,
    parse_endpoint,
)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("node1", "node1", 29400),
        ("node1:1", "node1", 1),
        (" node1:65535 ", "node1", 65535),
        ("localhost:0", "localhost", 0),
        ("10.0.0.1:29500", "10.0.0.1", 29500),
        ("[::1]:29500", "::1", 29500),
        ("[fe80::1]", "fe80::1", 29400),
        ("::1", "::1", 29400),
    ],
)
def test_an_endpoint_is_a_host_and_perhaps_a_port(text, host, port):
    """The port is 29400 unless given; IPv6 addresses stand in brackets if one is."""
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
        ("http://node1:29400", "no URL"),
        ("node 1", "no spaces"),
    ],
)
def test_what_is_no_endpoint_is_refused(text, match):
    """The sentence quotes the text and says what would be right."""
    with pytest.raises(ValueError, match=match):
        parse_endpoint(text)


@pytest.mark.parametrize("text", ["node1:29400", "[::1]:29400"])
def test_an_endpoint_reads_as_it_is_written(text):
    """Its text parses to itself."""
    assert text == str(parse_endpoint(text))


def test_the_default_port_may_be_another():
    """What the text names goes before it."""
    assert (Endpoint("h", 7), Endpoint("h", 8)) == (
        parse_endpoint("h", 7),
        parse_endpoint("h:8", 7),
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


def test_an_unknown_name_leads_nowhere():
    """The error names it."""
    with pytest.raises(OSError, match="nowhere.invalid"):
        address_towards("nowhere.invalid", 1)


def test_the_default_address_is_this_machines():
    """Others would find this node there."""
    assert is_local(default_address())
