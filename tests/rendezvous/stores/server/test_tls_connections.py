"""Connections that certificates protect: real sockets, real certificates, true nodes and others."""

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading

import pytest
from cable_kit import Cable
from certificate_kit import Authority, needs_openssl
from elrun.rendezvous.errors import RendezvousStateError
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.network.ports import PortClaim
from elrun.rendezvous.stores.server.connector import StoreConnector
from elrun.rendezvous.stores.server.guard import NO_TLS_HERE, TLS_FAILED, TLS_WANTED
from elrun.rendezvous.stores.server.hello import write_hello
from elrun.rendezvous.stores.server.link import Link
from elrun.rendezvous.stores.signed import Secret
from tls_kit import HERE, LONG_S, ME, greet, guard

pytestmark = needs_openssl


@pytest.fixture(scope="module", name="stranger")
def _stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates") / "stranger")


@pytest.fixture(scope="module", name="other_config")
def _other_config(stranger):
    return {"cacert": stranger.path, **stranger.certify("other")}


@pytest.fixture(name="reach")
def _reach():
    """Return what opens the store of a job at a port, and close all that it opened."""
    stores = []

    def reach(port, protection, *, is_host=False, host=HERE):
        connect = StoreConnector(
            Endpoint(host, port), is_host, None, LONG_S, run_id="job", guard=protection
        )
        stores.append(connect(threading.Event()).store)
        stores[-1].port = port
        return stores[-1]

    yield reach
    for store in reversed(stores):
        store.close()


@pytest.fixture(name="port")
def _port():
    claim = PortClaim.take()
    yield claim.port
    claim.release()


@pytest.fixture(name="host")
def _host(reach, port, config):
    return reach(port, guard(**config), is_host=True)


@pytest.mark.parametrize("secret", [None, Secret(b"open sesame")])
def test_nodes_with_certificates_share_a_store(reach, port, config, secret):
    """With a secret or without one; large values go both ways."""
    both = {**config, **({} if secret is None else {"secret": secret})}
    host = reach(port, guard(**both), is_host=True)
    guest = reach(port, guard(**both))
    big = os.urandom(3 << 20)
    guest.set({"big": big})
    told = threading.Event()
    guest.watch(["k"], lambda _: told.set())
    host.set({"k": b"v"})

    assert told.wait(LONG_S)
    assert [big] == guest.get(["big"]) == host.get(["big"])
    assert (1, 2) == (guest.add("n", 1), host.add("n", 1))


def test_what_passes_can_not_be_read(reach, host, config):
    """Neither keys nor values, nor the name of the run."""
    passed = []

    class Tap(Cable):
        @staticmethod
        def copy(here, there, on_first):
            with contextlib.suppress(OSError):
                while data := here.recv(1 << 16):
                    passed.append(data)
                    there.sendall(data)

    tap = Tap(host.port)
    guest = reach(tap.endpoint.port, guard(**config))
    guest.set({"verdict": b"value"})
    guest.close()
    tap.close()

    assert passed
    assert not any(word in b"".join(passed) for word in (b"verdict", b"dmFsdWU", b"job", b"elrun"))


def test_a_client_that_loses_its_connection_comes_back(reach, host, config):
    """It shows its certificate again, and nothing that it wrote happens twice."""
    cable = Cable(host.port)
    guest = reach(cable.endpoint.port, guard(**config))
    counts = [guest.add("n", 1)]
    for _ in range(5):
        cable.break_off()
        counts.append(guest.add("n", 1))
    guest.close()
    cable.close()

    assert list(range(1, 7)) == counts


@pytest.mark.parametrize(
    ("theirs", "mine", "kind", "sentence"),
    [
        ("config", None, TLS_WANTED, "takes only nodes with a certificate, and this one was given"),
        (None, "config", NO_TLS_HERE, "was started without certificates, and this node was given"),
        ("config", "other_config", TLS_FAILED, "certificate is not valid here: "),
    ],
    ids=["plain client", "plain server", "another authority"],
)
def test_a_node_with_another_protection_is_refused_with_a_sentence(
    request, reach, port, theirs, mine, kind, sentence
):
    """At once: no patience makes a certificate better."""
    config_of = {name: guard(**request.getfixturevalue(name)) for name in (theirs, mine) if name}
    host = reach(port, config_of.get(theirs, guard()), is_host=True)
    protection = config_of.get(mine, guard())
    refusal = greet(port, protection)
    with pytest.raises(RendezvousStateError, match=sentence):
        reach(port, protection)

    assert kind == refusal.kind
    assert 1 == host.add("n", 1)


def test_a_client_whose_certificate_nobody_vouches_for_is_refused(reach, port, config, stranger):
    """The server's is good, so only the server can tell; the client learns of it."""
    host = reach(port, guard(**config), is_host=True)
    true = guard(**config)
    false = guard(**{"cacert": stranger.path, **stranger.certify("false")})
    false.tls._client.load_verify_locations(config["cacert"])
    refusal = greet(port, false)

    told = "the other side does not accept this node's certificate: TLS alert unknown ca "

    assert (TLS_FAILED, True) == (refusal.kind, refusal.reason.startswith(told)), refusal
    assert isinstance(greet(port, true), Link)
    assert 1 == host.add("n", 1)


def test_a_name_that_is_not_in_the_certificate_is_refused(host, config):
    """The server has to show the name or address of the endpoint, as the user wrote it."""
    refusal = greet(host.port, guard(**config), "node-7.cluster")

    assert TLS_FAILED == refusal.kind
    assert "Hostname mismatch, certificate is not valid for 'node-7.cluster'" in refusal.reason


def test_a_name_in_the_certificate_will_do(reach, port, authority):
    """Also where the connection is made anew, to the address that it had before."""
    files = {"cacert": authority.path, **authority.certify("named", names="DNS:localhost")}
    host = reach(port, guard(**files), is_host=True, host="localhost")
    guest = reach(port, guard(**files), host="localhost")
    guest._line._reader.link.shut_down()

    assert (1, 2) == (guest.add("n", 1), host.add("n", 1))


def missing(authority, folder):
    return {"cacert": authority.path, "cert": str(folder / "none.pem"), "key": authority.path}


def no_pem(authority, folder):
    (folder / "junk").write_text("junk")
    return {**missing(authority, folder), "cert": str(folder / "junk")}


def no_authority(authority, folder):
    (folder / "junk").write_text("junk")
    return {"cacert": str(folder / "junk"), **authority.certify("a")}


def others_key(authority, _):
    return {
        "cacert": authority.path,
        "cert": authority.certify("a")["cert"],
        "key": authority.certify("b")["key"],
    }


def with_password(authority, _):
    return {"cacert": authority.path, **authority.certify("p", password="open sesame")}


def expired(authority, _):
    return {"cacert": authority.path, **authority.certify("old", days=-1)}


def not_yet_valid(authority, _):
    dates = "20900101000000Z", "20910101000000Z"
    return {"cacert": authority.path, **authority.certify_from("early", *dates)}


def of_another(authority, folder):
    return {"cacert": authority.path, **Authority(folder / "another").certify("x")}


def self_signed(authority, folder):
    Authority(folder / "self")
    pair = {"cert": str(folder / "self" / "ca.pem"), "key": str(folder / "self" / "ca.key")}
    return {"cacert": authority.path, **pair}


def for_servers(authority, _):
    return {"cacert": authority.path, **authority.certify("s", usage="serverAuth")}


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (missing, r"cert=.*none.pem: it can't be read: No such file or directory"),
        (no_pem, r"cert=.*junk, key=.*: these are no certificate and its key without a password"),
        (no_authority, r"cacert=.*junk: it has no certificates"),
        (others_key, r"cert=.*a.pem, key=.*b.key: these are no certificate and its key.*mismatch"),
        (with_password, r"cert=.*p.pem, key=.*p.key: these are no certificate and its key without"),
        (expired, r"cert=.*old.pem: other nodes would refuse .*ca.pem: certificate has expired"),
        (
            not_yet_valid,
            r"early.pem: other nodes would refuse .*ca.pem: certificate is not yet valid",
        ),
        (of_another, r"cert=.*x.pem: other nodes would refuse this certificate by cacert=.*ca.pem"),
        (self_signed, r"cert=.*ca.pem: other nodes would refuse .*: self-signed certificate"),
        (for_servers, r"cert=.*s.pem: other nodes would refuse .* unsuitable certificate purpose"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_file_that_is_no_good_is_named_before_anybody_is_met(authority, tmp_path, make, sentence):
    """The sentence names the setting, the file and what is wrong with it."""
    with pytest.raises(ValueError, match=sentence):
        guard(**make(authority, tmp_path))


@pytest.mark.parametrize("given", ["cacert", "cert", "key"])
def test_certificates_are_given_all_or_none(config, given):
    """Both sides show one, and both check."""
    with pytest.raises(ValueError, match="give all of cacert, cert and key"):
        guard(**{given: config[given]})


def test_a_slow_stranger_holds_nobody_up(reach, host, config):
    """A handshake that comes byte by byte, or not at all, waits by itself."""
    silent = [socket.create_connection((HERE, host.port), LONG_S) for _ in range(20)]
    for number, connection in enumerate(silent):
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00"[: number % 7 + 1])
    guest = reach(host.port, guard(**config))
    counted = guest.add("n", 1)
    for connection in silent:
        connection.close()

    assert 1 == counted


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x00\x05hello",
        b"\x16" * 4096,
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"GET / HTTP/1.1\r\n\r\n",
        os.urandom(512),
    ],
    ids=["no hello", "no records", "an alert", "http", "random"],
)
def test_garbage_ends_its_own_connection_only(host, garbage):
    """Whatever speaks there."""
    with socket.create_connection((HERE, host.port), LONG_S) as connection:
        connection.sendall(garbage)
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(1 << 16):
                pass

    assert 1 == host.add("n", 1)


class RawClient:
    """A client with a certificate that does with TLS what it likes."""

    def __init__(self, port, config):
        context = ssl.create_default_context(cafile=config["cacert"])
        context.load_cert_chain(config["cert"], config["key"])
        context.check_hostname = False
        self.plain = socket.create_connection((HERE, port), LONG_S)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing)
        while self.goes_on(self.tls.do_handshake):
            self.plain.sendall(self._outgoing.read())
            self._incoming.write(self.plain.recv(1 << 16))

    @staticmethod
    def goes_on(step):
        try:
            step()
        except ssl.SSLWantReadError:
            return True
        return False

    def send(self, *frames):
        for frame in frames:
            self.tls.write(frame)
        self.plain.sendall(self._outgoing.read())

    def receive(self):
        while self.goes_on(lambda: self.tls.read(1 << 16)):
            self._incoming.write(self.plain.recv(1 << 16))


def test_what_comes_after_the_end_of_tls_ends_the_connection(host, config):
    """OpenSSL keeps it and reads none of it: the memory of the server would grow with it."""
    client = RawClient(host.port, config)
    client.send(write_hello(ME))
    client.receive()
    client.goes_on(client.tls.unwrap)
    client.send()
    with client.plain as plain, pytest.raises(ConnectionError):
        plain.sendall(bytes(64 << 20))

    assert 1 == host.add("n", 1)


def test_a_handshake_that_comes_in_single_bytes_is_a_handshake(host, config):
    """TCP keeps no borders."""
    cable = Cable(host.port)

    def copy(here, there, on_first):
        on_first()
        with contextlib.suppress(OSError):
            while data := here.recv(64):
                for at in range(len(data)):
                    there.sendall(data[at : at + 1])

    cable.copy = copy
    answer = greet(cable.endpoint.port, guard(**config))
    cable.close()

    assert isinstance(answer, Link)


IMPORTED = """
import sys
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.backends.c10d import create_c10d
create_c10d(RendezvousParameters("c10d", "localhost", "job", 1, 2))
print({"ssl", "hmac", "hashlib"} & set(sys.modules) or "none")
"""


@pytest.mark.integration
def test_a_job_without_certificates_does_not_load_tls():
    """Nor what computes hashes."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=False
    )

    assert ("none\n", "") == (done.stdout, done.stderr)
