"""What the tests of carriers share: a worker's end of a pipe, and what comes out of another."""

import os
import select

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
