"""What is in the pipes of workers is read whole when they have ended."""

import fcntl
import math
import os

import pytest
from elrun.agent.output.reader import PipeReader, Rests

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


LITTLE, MUCH_OF_A_PIPE, NEARLY_ALL = 100, 50_000, 200_000


def test_pipes_that_are_nearly_full_are_read_again_at_once():
    rests = Rests(256 << 10)

    assert [2, 0, 2] == [rests.after(LITTLE), rests.after(NEARLY_ALL), rests.after(LITTLE)]


def test_pauses_grow_while_workers_print_much_and_end_with_that():
    rests = Rests(256 << 10)

    grown = [rests.after(MUCH_OF_A_PIPE) for _ in range(8)]

    assert [3, 4, 5, 6, 7, 8, 8, 8] == grown
    assert [2, 3] == [rests.after(LITTLE), rests.after(MUCH_OF_A_PIPE)]


def test_pauses_shrink_where_pipes_are_more_than_half_full():
    rests = Rests(256 << 10)
    for _ in range(3):
        rests.after(MUCH_OF_A_PIPE)

    assert [4, 3, 2, 2] == [rests.after(150_000) for _ in range(4)]


def test_the_end_of_a_line_is_read_at_once_where_its_beginning_ended_a_silence():
    rests = Rests(256 << 10)

    assert [0, 2] == [rests.after(LITTLE, begins_line=True), rests.after(LITTLE)]


def test_a_small_pipe_is_read_again_at_once_when_it_is_nearly_full():
    """The kernel grants no larger one to a user who has too many."""
    rests = Rests(8 << 10)

    assert [2, 0] == [rests.after(4 << 10), rests.after(7 << 10)]


class Beginning(Heap):
    """An outlet that has the beginning of a line."""

    @property
    def due_at(self):
        return None if self.data.endswith(b"\n") or not self.data else math.inf


class AskedRests(Rests):
    """Keeps what it was asked."""

    def __init__(self, pipe_bytes):
        super().__init__(pipe_bytes)
        self.asked = []

    def after(self, most_bytes, *, begins_line=False):
        self.asked.append((most_bytes, begins_line))
        return super().after(most_bytes, begins_line=begins_line)


def test_only_the_beginning_of_a_line_after_a_silence_is_followed_by_a_look_at_once(monkeypatch):
    made = []
    monkeypatch.setattr(
        "elrun.agent.output.reader.Rests", lambda *args: made.append(AskedRests(*args)) or made[0]
    )
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    reader = PipeReader({reading: Beginning()}, 64 << 10)
    looks = reader.looks()

    for word, silence_s in ((b"a", 0), (b"bc", math.inf), (b"\n\n\n", 0), (b"4 \n\n", 0)):
        monkeypatch.setattr("elrun.agent.output.reader._SILENCE_S", silence_s)
        os.write(writing, word)
        next(looks)
    looks.close()
    os.close(writing)
    reader.read_last()
    reader.close()

    assert [(1, True), (2, False), (3, False)] == made[0].asked
