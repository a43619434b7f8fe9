"""Frames that a shared secret seals: each end opens the other's next frame and nothing else."""

import pytest
from elrun.rendezvous.stores.server.frames import UnsealedError
from elrun.rendezvous.stores.server.guard import (
    Guard,
)
from elrun.rendezvous.stores.server.hello import (
    new_nonce,
)
from elrun.rendezvous.stores.server.seal import CLIENT, SERVER, Seal
from elrun.rendezvous.stores.signed import Secret

OURS, THEIRS = Guard(Secret(b"open sesame")), Guard(Secret(b"please"))
# The seal, without a socket.


@pytest.fixture(name="ends")
def _ends():
    """Return what makes the two ends of a connection, with other nonces each time."""

    def make(nonces=None, ours=OURS.secret, theirs=OURS.secret):
        nonces = nonces or (new_nonce(), new_nonce())
        return Seal(ours, nonces, CLIENT), Seal(theirs, nonces, SERVER)

    return make


def test_a_seal_is_these_bytes(ends):
    """Nodes of one version must understand each other."""
    client, server = ends((bytes(16), bytes(range(16))))
    contents = [client.close(b"{}"), client.close(b"{}"), server.close(b"{}")]

    assert [34] * 3 == [len(content) for content in contents]
    assert 3 == len(set(contents))
    assert [b"{}", b"{}"] == [server.open(content) for content in contents[:2]]


@pytest.mark.parametrize("change", ["repeat", "swap", "reflect", "flip", "cut", "other", "secret"])
def test_only_the_next_frame_of_the_other_end_is_opened(ends, change):
    """Whatever else comes is refused."""
    client, server = ends()
    first, second = client.close(b"first"), client.close(b"second")
    if change == "repeat":
        server.open(first)
        wrong = first
    elif change == "swap":
        wrong = second
    elif change == "reflect":
        server, wrong = client, first
    elif change == "other":
        wrong = ends()[0].close(b"first")
    elif change == "secret":
        nonces = (bytes(16), bytes(16))
        wrong = ends(nonces, THEIRS.secret)[0].close(b"first")
        server = ends(nonces)[1]
    else:
        wrong = first[:-1] + b"T" if change == "flip" else first[:20]
    with pytest.raises(UnsealedError):
        server.open(wrong)


def test_one_change_in_a_nonce_makes_other_keys(ends):
    """Each side brings one, so each knows that the other lives now."""
    mine, its = new_nonce(), new_nonce()
    frame = ends((mine, its))[0].close(b"x")
    for nonces in ((new_nonce(), its), (mine, new_nonce()), (its, mine)):
        with pytest.raises(UnsealedError):
            ends(nonces)[1].open(frame)
