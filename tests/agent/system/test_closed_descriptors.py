"""A forked child closes what it is not to have, at a cost that does not grow with its parent."""

import os

import pytest
from elrun.agent.system import fork
from elrun.agent.system.fork import fd_closer


def open_after(close, kept):
    """Return which of some descriptors a child still has after the call, and its exit code."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            close({0, 1, 2, writing, *kept})
            found = [fd for fd in range(200) if _is_open(fd)]
            os.write(writing, repr(found).encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        return {*map(int, os.read(reading, 1 << 16).decode().strip("[]").split(","))} - {writing}
    finally:
        os.close(reading)
        os.waitpid(pid, 0)


def _is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.fixture(name="fds")
def _fds():
    """Open some descriptors with gaps between them, as a parent of many children has."""
    fds = (150, 151, 160, 199)
    null = os.open(os.devnull, os.O_RDONLY)
    for fd in fds:
        os.dup2(null, fd)
    yield fds
    for fd in (null, *fds):
        os.close(fd)


@pytest.mark.parametrize("kept", [(), (151,), (150, 199), (150, 151, 160, 199)])
@pytest.mark.parametrize("is_old", [False, True])
def test_all_but_those_that_are_kept_are_closed(fds, monkeypatch, kept, is_old):
    """Also by a kernel that has no ``close_range``; without it none is listed."""
    if is_old:
        monkeypatch.setattr(fork, "_CLOSE_RANGE", -1)
    else:
        monkeypatch.setattr(fork, "_close_listed", lambda _: os._exit(9))

    assert {0, 1, 2, *kept} & {*fds, 0, 1, 2} == open_after(fd_closer(), kept) & {*fds, 0, 1, 2}
    assert set() == open_after(fd_closer(), kept) - {0, 1, 2, *kept}
