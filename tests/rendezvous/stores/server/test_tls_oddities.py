"""Clients whose TLS is odd or never ends: they change nothing for the nodes of the job."""

import contextlib
import os
import shutil
import socket
import ssl
import threading

import pytest
from certificate_kit import Authority, needs_openssl
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.stores.server.connector import StoreConnector
from elrun.rendezvous.stores.server.dial import Unreached
from elrun.rendezvous.stores.server.entrance import Entrance
from elrun.rendezvous.stores.server.guests import ClientLimits
from elrun.rendezvous.stores.server.hello import write_hello
from elrun.rendezvous.stores.server.link import Link
from tls_kit import HERE, LONG_S, ME, greet, guard

pytestmark = needs_openssl


@pytest.fixture(name="host")
def _host(port, config):
    """Return the store of a job with certificates, hosted by this process."""
    connect = StoreConnector(
        Endpoint(HERE, port), True, None, LONG_S, run_id="job", guard=guard(**config)
    )
    store = connect(threading.Event()).store
    yield store
    store.close()


def context_of(config, **settings):
    context = ssl.create_default_context(cafile=config["cacert"])
    context.check_hostname = False
    if "cert" in config:
        context.load_cert_chain(config["cert"], config["key"])
    for name, value in settings.items():
        setattr(context, name, value)
    return context


def answer_to_hello(port, context, name=None):
    """Return what the server says to a hello over such a TLS, or its alert."""
    plain = socket.create_connection((HERE, port), LONG_S)
    try:
        with context.wrap_socket(plain, server_hostname=name) as connection:
            connection.sendall(write_hello(ME))
            return connection.recv(1 << 16)
    except (ssl.SSLError, ConnectionError) as error:
        return str(error)


def test_handshakes_that_stop_at_each_byte_keep_no_node_out(host, port, config):
    """They stay where they are, hundreds at a time."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context_of(config).wrap_bio(incoming, outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    opening = outgoing.read()
    with contextlib.ExitStack() as held:
        for end in range(1, len(opening) + 1):
            each = held.enter_context(socket.create_connection((HERE, port), LONG_S))
            each.sendall(opening[:end])
        answer = greet(port, guard(**config))

        assert isinstance(answer, Link)
        assert 1 == host.add("n", 1)


def test_a_node_that_makes_room_before_its_tls_was_heard_comes_again(open_server, config):
    """It has begun by then; the host has read nothing of that, and says why in plain."""
    entrance = Entrance(guard(**config), "job")
    limits = ClientLimits(hello_s=1000, strangers=1, chance_s=0)
    server = open_server(limits=limits, entrance=entrance)
    node = server.dial()
    stranger = server.dial()
    told = node.recv(4096)
    with socket.create_server((HERE, 0)) as listener:
        answering = threading.Thread(target=answer_one, args=(listener, told))
        answering.start()
        answer = greet(listener.getsockname()[1], guard(**config))
        answering.join()
    node.close()
    stranger.close()

    assert isinstance(answer, Unreached)
    assert ("so many connections come", False) == (answer.reason[:24], answer.is_foreign)


def answer_one(listener, data):
    connection, _ = listener.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(data)


def test_handshakes_that_stop_at_each_byte_of_the_client_s_certificate_keep_no_node_out(
    host, port, config
):
    """The server has spent its signature on them by then."""
    context, lengths = context_of(config), []
    with contextlib.ExitStack() as held:
        for at in range(200):
            each = held.enter_context(socket.create_connection((HERE, port), LONG_S))
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls, is_done = context.wrap_bio(incoming, outgoing), False
            while not is_done:
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                    is_done = True
                if not is_done:
                    each.sendall(outgoing.read())
                    incoming.write(each.recv(1 << 16))
            flight = outgoing.read()
            lengths.append(len(flight))
            each.sendall(flight[: at * len(flight) // 200])
        answer = greet(port, guard(**config))

        assert isinstance(answer, Link)
        assert 1 == host.add("n", 1)
        assert min(lengths) > 500  # with the certificate and what proves its key


def test_a_client_of_tls_1_2_is_refused(host, port, config):
    """So nobody can negotiate anew, as TLS 1.3 has no way to."""
    told = answer_to_hello(port, context_of(config, maximum_version=ssl.TLSVersion.TLSv1_2))

    assert "alert protocol version" in told
    assert 1 == host.add("n", 1)


def test_a_client_without_a_certificate_is_refused(host, port, config):
    told = answer_to_hello(port, context_of({"cacert": config["cacert"]}))

    assert "alert certificate required" in told
    assert 1 == host.add("n", 1)


@pytest.mark.parametrize("name", ["localhost", "other.example", "x" * 63, "xn--nxasmq6b"])
def test_the_name_and_the_protocols_that_a_client_asks_for_do_not_matter(host, port, config, name):
    """It has a good certificate, and elrun's server has one for all."""
    context = context_of(config)
    context.set_alpn_protocols(["h2", "http/1.1"])

    assert b'"welcome"' in answer_to_hello(port, context, name)
    assert 1 == host.add("n", 1)


def test_the_certificate_of_a_client_may_have_any_name(host, port, authority):
    files = {"cacert": authority.path, **authority.certify("far", names="DNS:elsewhere.example")}

    assert isinstance(greet(port, guard(**files)), Link)
    assert 1 == host.add("n", 1)


def test_files_are_read_once_at_the_start(port, authority, tmp_path):
    """So a certificate has to be valid for as long as the job runs."""
    files = {"cacert": authority.path, **authority.certify("brief")}
    copies = {name: str(tmp_path / name) for name in files}
    for name, path in files.items():
        shutil.copy(path, copies[name])
    protection = guard(**copies)
    for path in copies.values():
        os.unlink(path)
    connect = StoreConnector(
        Endpoint(HERE, port), True, None, LONG_S, run_id="job", guard=protection
    )
    store = connect(threading.Event()).store
    answer = greet(port, protection)
    store.close()

    assert isinstance(answer, Link)


def test_a_server_that_comes_back_with_another_certificate_is_taken_if_it_is_a_good_one(
    port, authority, config, tmp_path
):
    """The authority decides, not the certificate that was there before."""
    stranger = Authority(tmp_path / "stranger")
    servers = [
        config,
        {"cacert": authority.path, **authority.certify("renewed")},
        {"cacert": stranger.path, **stranger.certify("false")},
    ]
    answers = []
    for server in servers:
        connect = StoreConnector(
            Endpoint(HERE, port), True, None, LONG_S, run_id="job", guard=guard(**server)
        )
        store = connect(threading.Event()).store
        answers.append(greet(port, guard(**config)))
        store.close()

    assert [Link, Link] == [type(answer) for answer in answers[:2]]
    assert "certificate is not valid here: " in answers[2].reason
