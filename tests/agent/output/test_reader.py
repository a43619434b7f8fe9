"""What is in the pipes of workers is read whole when they have ended."""

import fcntl
import os

import pytest
from elrun.agent.output.reader import PipeReader

MUCH = b"all work\n" * 60_000


class Heap:
    """An outlet that keeps what it is given."""

    is_held_up = False
    due_at = None

    def __init__(self):
        self.data = b""
        self.is_over = False

    def take(self, chunk, now):
        self.data += chunk

    def finish(self):
        self.is_over = True


@pytest.fixture(name="pipe")
def _pipe():
    """Return both ends of a pipe that a worker has made larger, and has filled."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 20)
    os.write(writing, MUCH)
    return reading, writing


def test_a_pipe_that_holds_more_than_one_read_takes_is_read_whole(pipe):
    """Another process has it open, and goes on to print there."""
    heap = Heap()
    reader = PipeReader({pipe[0]: heap}, 64 << 10)

    held = reader.read_last()
    reader.close()
    os.close(pipe[1])

    assert ([pipe[0]], MUCH, True) == (held, heap.data, heap.is_over)


def test_a_pipe_that_has_ended_is_read_whole_and_closed(pipe):
    heap = Heap()
    reader = PipeReader({pipe[0]: heap}, 64 << 10)
    os.close(pipe[1])

    held = reader.read_last()
    reader.close()

    assert ([], MUCH, True) == (held, heap.data, heap.is_over)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pipe[0])
