"""Peers that answer without TLS where a node has certificates: believed only if they refuse it."""

import socket
import threading

import pytest
from certificate_kit import needs_openssl
from elrun.rendezvous.stores.server.dial import Unreached, shake_hands
from elrun.rendezvous.stores.server.frames import WireError, write_frame
from elrun.rendezvous.stores.server.guard import NO_TLS_HERE
from tls_kit import HERE, LONG_S, ME, greet, guard

pytestmark = needs_openssl


def test_a_plain_peer_that_welcomes_a_node_with_certificates_is_not_believed(config):
    """Only a refusal is taken in plain."""
    mine, its = socket.socketpair()
    with its:
        its.sendall(b'\0\0\0\x1b{"elrun":3,"welcome":"a1b"}')
        with pytest.raises(WireError, match="without the protection"):
            shake_hands(mine, ME, LONG_S, guard(**config), HERE)
    mine.close()


REFUSAL = write_frame({"elrun": 3, "refused": NO_TLS_HERE, "reason": ""})
WELCOME = write_frame({"elrun": 3, "welcome": "a1"})


@pytest.fixture(name="plain_server")
def _plain_server():
    """Return what makes an end of a connection whose other end gets these pieces one by one."""
    ends = []

    def make(pieces):
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ends.extend([mine, its])
        for piece in pieces:
            its.send(piece)
        its.shutdown(socket.SHUT_WR)
        return mine

    yield make
    for end in ends:
        end.close()


@pytest.mark.parametrize(
    "pieces",
    [
        [REFUSAL],
        [REFUSAL[at : at + 1] for at in range(len(REFUSAL))],
        [REFUSAL[:20], REFUSAL[20:]],
        [REFUSAL + WELCOME],
        [REFUSAL + b"junk"],
    ],
    ids=["whole", "single bytes", "two pieces", "with more", "with junk"],
)
def test_a_refusal_in_plain_is_read_in_whatever_pieces_it_comes(config, plain_server, pieces):
    """TCP keeps no borders."""
    answer = shake_hands(plain_server(pieces), ME, LONG_S, guard(**config), HERE)

    assert NO_TLS_HERE == answer.kind
    assert answer.reason.startswith("run 'job' was started without certificates")


@pytest.mark.parametrize(
    "pieces",
    [
        [REFUSAL[:20]],
        [REFUSAL[:1]],
        [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
        [b"\0\0\0\2[]"],
        [b"\0\0\0\2{}"],
        [WELCOME + REFUSAL],
        [write_frame({"elrun": 3, "refused": 1, "reason": ""})],
    ],
    ids=["half", "a byte", "HTTP", "a list", "nothing", "welcome first", "a number"],
)
def test_what_is_no_refusal_in_plain_is_no_store_server(config, plain_server, pieces):
    """A node with certificates handles junk as a node without certificates does."""
    with pytest.raises(WireError):
        shake_hands(plain_server(pieces), ME, LONG_S, guard(**config), HERE)


@pytest.mark.parametrize("junk", [REFUSAL[:9], REFUSAL[:1], b"\0", b"HTTP/1.1 400\r\n\r\n"])
def test_a_program_that_answers_a_node_with_certificates_in_junk_is_foreign(config, junk):
    """The node tries again until its join timeout, and says why."""
    with socket.create_server((HERE, 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(junk)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        found = greet(listener.getsockname()[1], guard(**config))
        thread.join(LONG_S)

    assert found == Unreached("a program answers that is no store server", is_foreign=True)
