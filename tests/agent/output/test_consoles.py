"""Showing streams on a console: in memory, from their log files, whole or interrupted."""

import io

import pytest
from elrun.agent.output.console import MAX_QUEUED_BYTES, Console
from elrun.agent.output.sinks import Faults, LogFile
from elrun.agent.output.specs import Std
from elrun.agent.output.steps import EVERYTHING
from elrun.agent.output.streams import Stream
from hypothesis import given, settings
from hypothesis import strategies as st

MARKS = (b"[0]:", b"[1]:")

# Few letters, so that every order of them and of the ends of a line comes up, cut anywhere.
chunks = st.sampled_from([b"a", b"bcdef", b"\r", b"\n", b"\r\n", b"g\nh", b"i\r", b"j" * 70_000])
turns = st.lists(st.tuples(st.sampled_from([0, 1]), chunks, st.booleans()), max_size=12)
thorough = settings(max_examples=25, deadline=None, database=None)


class Screen:
    """A sink that keeps what it is given."""

    def __init__(self):
        self.text = io.BytesIO()

    def step_bytes(self):
        return EVERYTHING

    def write(self, data):
        self.text.write(data)


class Desk:
    """Two streams on one console.

    Args:
        directory: For their log files.
        max_queued_bytes: The most that waits in memory; 0: everything is read back.
    """

    def __init__(self, directory, max_queued_bytes=MAX_QUEUED_BYTES):
        self.console = Console("the console", self.has_room, max_queued_bytes=max_queued_bytes)
        self.screen = Screen()
        self.rooms = 0
        self.streams = []
        for number, mark in enumerate(MARKS):
            view = self.console.add_view(f"stream {number}", mark, self.screen)
            path = str(directory / str(number))
            stream = Stream(
                Std.OUT, path=path, console=self.console, view=view, mark=mark, words=()
            )
            stream.open(lambda path, _: LogFile(path, Faults(), retry_s=0), None)
            self.streams.append(stream)

    def has_room(self):
        self.rooms += 1

    def take(self, number, chunk, *, pauses=False):
        self.streams[number].take(chunk, now=0.0)
        if pauses:
            self.streams[number].show_beginning()

    def shown(self):
        """Let everything be shown, and return it."""
        for stream in self.streams:
            stream.finish()
        self.console.start()
        assert [] == self.console.close()
        for stream in self.streams:
            stream._file.close()
        return self.screen.text.getvalue()


@pytest.fixture(name="desk")
def _desk(tmp_path):
    return Desk(tmp_path)


@pytest.mark.parametrize("max_queued_bytes", [0, 400, MAX_QUEUED_BYTES])
@thorough
@given(turns=turns)
def test_each_stream_s_lines_are_whole(tmp_path_factory, max_queued_bytes, turns):
    """From memory or from the log file: the same lines, in their stream's order, marked."""
    desk = Desk(tmp_path_factory.mktemp("logs"), max_queued_bytes)
    for number, chunk, _ in turns:
        desk.take(number, chunk)
    lines = desk.shown().splitlines()

    for number, mark in enumerate(MARKS):
        stream = b"".join(chunk for each, chunk, _ in turns if each == number)
        expected = [mark + line for line in stream.splitlines()]
        assert expected == [line for line in lines if line.startswith(mark)]


@pytest.mark.parametrize("max_queued_bytes", [0, 400, MAX_QUEUED_BYTES])
@thorough
@given(turns=turns)
def test_nothing_is_lost_where_lines_pause(tmp_path_factory, max_queued_bytes, turns):
    """Each line begins with a mark, and what stands after a stream's marks is the stream."""
    desk = Desk(tmp_path_factory.mktemp("logs"), max_queued_bytes)
    for number, chunk, pauses in turns:
        desk.take(number, chunk, pauses=pauses)
    lines = desk.shown().splitlines()

    assert all(line.startswith(MARKS) for line in lines)
    for number, mark in enumerate(MARKS):
        stream = b"".join(chunk for each, chunk, _ in turns if each == number)
        seen = b"".join(line.removeprefix(mark) for line in lines if line.startswith(mark))
        assert stream.replace(b"\r", b"").replace(b"\n", b"") == seen


def test_the_rest_of_a_line_follows_without_a_prefix(desk):
    """Where nothing came between."""
    desk.take(0, b"loading ", pauses=True)
    desk.take(0, b"... ", pauses=True)
    desk.take(0, b"done\nnext\n")

    assert b"[0]:loading ... done\n[0]:next\n" == desk.shown()


def test_the_rest_of_an_interrupted_line_begins_with_the_prefix(desk):
    """The other's line begins on its own line."""
    desk.take(0, b"loading ", pauses=True)
    desk.take(1, b"hello\n")
    desk.take(0, b"done\n")

    assert b"[0]:loading \n[1]:hello\n[0]:done\n" == desk.shown()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_the_end_alone_of_an_interrupted_line_makes_no_empty_line(desk, end):
    """The interruption has ended it."""
    desk.take(0, b"loading", pauses=True)
    desk.take(1, b"hello\n")
    desk.take(0, end + b"next\n")

    assert b"[0]:loading\n[1]:hello\n[0]:next\n" == desk.shown()


def test_a_line_that_never_ends_is_ended(desk):
    """What follows, elrun's summary, begins on its own line."""
    desk.take(0, b"(Pdb) ", pauses=True)

    assert b"[0]:(Pdb) \n" == desk.shown()


def test_two_unfinished_lines_take_turns(desk):
    """Two prompts at once stand on two lines."""
    desk.take(0, b"a? ", pauses=True)
    desk.take(1, b"b? ", pauses=True)
    desk.take(0, b"yes\n")

    assert b"[0]:a? \n[1]:b? \n[0]:yes\n" == desk.shown()


def test_what_was_cut_from_a_log_file_is_said_to_be_left_out(tmp_path):
    """A person empties a file that the console had yet to be shown from."""
    desk = Desk(tmp_path, max_queued_bytes=0)
    desk.take(0, b"hello\n")
    (tmp_path / "0").write_bytes(b"")

    notice = b"elrun: 6 bytes of the stream 0 are left out here: its log file has been cut\n"
    assert notice == desk.shown()


def test_room_is_told_of_once_the_queue_has_some(tmp_path):
    """To whoever asked while it was full, whatever others were told since."""
    desk = Desk(tmp_path, max_queued_bytes=1000)
    desk.take(0, b"x" * 1000 + b"\n")
    assert desk.console.is_full()
    desk.shown()

    assert 1 == desk.rooms
    assert not desk.console.is_full()
