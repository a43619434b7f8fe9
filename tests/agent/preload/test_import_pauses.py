"""The pauses of an import behind workers, where the process may not leave the lowest priority."""

import fcntl
import io
import socket

import pytest
from elrun.agent.preload.hook import imports


@pytest.fixture(name="line")
def _line():
    """Return both ends of a line; one has a number that `select` doesn't take."""
    ours, theirs = socket.socketpair()
    try:
        high = socket.socket(fileno=fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 1024))
    except OSError:
        pytest.skip("a process may not have that many descriptors here")
    with ours, theirs, high:
        yield ours, high


def test_a_pause_ends_when_the_agent_writes(line, monkeypatch):
    """Whatever the number of the line's descriptor."""
    ours, theirs = line
    times = [(0, 0), (10**13, 10**13), (10**13, 2 * 10**13)]  # a pause of most of a day
    monkeypatch.setattr(imports._Pauses, "_times", staticmethod(lambda: times.pop(0)))
    pauses = imports._Pauses(theirs)
    ours.send(b"x")

    assert pauses.find_spec() is None
    assert [] == times


@pytest.mark.parametrize(
    ("text", "expected"),
    [(b"1 2 3\n", (1, 2)), (b"", (0, 0)), (b"1 2", (0, 0)), (b"1 2 x", (0, 0))],
)
def test_a_kernel_that_does_not_count_leads_to_no_pauses(monkeypatch, text, expected):
    """An exception would end the import of a module that is there."""
    monkeypatch.setattr(imports, "open", lambda *_: io.BytesIO(text), raising=False)

    assert expected == imports._Pauses._times()
