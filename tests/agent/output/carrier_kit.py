"""What the tests of carriers share: a worker's end of a pipe, and what comes out of another."""

import os
import select
import threading

PATIENCE_S = 60


def worker(carrier, rank=0):
    """Return a descriptor as a worker inherits it."""
    return os.dup(carrier.stderr_fd(rank))


def read(reader, size):
    """Return so many bytes, once they are there."""
    text = b""
    while len(text) < size:
        assert select.select([reader], [], [], PATIENCE_S)[0]
        text += os.read(reader, size - len(text))
    return text


def fds_and_threads():
    return set(os.listdir("/proc/self/fd")), set(threading.enumerate())


def more_than(before):
    """Return which descriptors and threads have come; those of another test may still go."""
    return tuple(now - then for now, then in zip(fds_and_threads(), before, strict=True))
