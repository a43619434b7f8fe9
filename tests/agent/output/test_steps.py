"""How much one call writes to a console, so that no other writer comes in between."""

import os
import pty
import select

import pytest
from elrun.agent.output.steps import EVERYTHING, Steps, end_of_piece


@pytest.fixture(name="pipe")
def _pipe():
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_an_empty_pipe_takes_half_of_its_bytes(pipe):
    """The other half is for pages that are not filled."""
    assert Steps(pipe[1]).most() == 32 << 10


def test_a_pipe_that_holds_something_takes_a_page(pipe):
    """A longer write might wait in its midst, and another writer would come in between."""
    steps = Steps(pipe[1])
    os.write(pipe[1], b"!")

    assert select.PIPE_BUF == steps.most()


def test_a_pipe_that_was_read_takes_half_again(pipe):
    steps = Steps(pipe[1])
    os.write(pipe[1], b"!")
    os.read(pipe[0], 1)

    assert steps.most() > select.PIPE_BUF


def test_a_file_takes_everything(tmp_path):
    with (tmp_path / "log").open("wb") as file:
        assert Steps(file.fileno()).most() == EVERYTHING


def test_nowhere_takes_everything():
    with open(os.devnull, "wb") as nowhere:
        assert Steps(nowhere.fileno()).most() == EVERYTHING


def test_a_terminal_takes_a_page():
    ours, theirs = pty.openpty()
    try:
        assert Steps(theirs).most() == select.PIPE_BUF
    finally:
        os.close(ours)
        os.close(theirs)


def test_what_is_closed_takes_a_page():
    assert Steps(-1).most() == select.PIPE_BUF


@pytest.mark.parametrize(
    ("most", "end"), [(4, 3), (2, 2), (6, 6), (EVERYTHING, 6)], ids=["line", "part", "all", "any"]
)
def test_a_piece_ends_with_a_line_if_it_holds_one(most, end):
    assert end_of_piece(b"ab\ncd\n", 0, most) == end
