"""elrun's own lines."""

import io
import logging
import os

import pytest
from elrun.launcher.terminal.console import Console, logging_to, printable
from elrun.rendezvous.logs import live_line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain ümlaut 中", "plain ümlaut 中"),
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\rb\x00\x7f\x9b", r"a\rb\x00\x7f\x9b"),
        ("\u202eright to left", r"\u202eright to left"),
        ("\udcff", r"\udcff"),
        ("a\tb", "a    b"),
        ("a\nb", "a\nb"),
        ("\u2028", r"\u2028"),
    ],
)
def test_nothing_in_a_text_acts_on_a_terminal(text, expected):
    """Control characters are shown; lines stay lines."""
    assert expected == printable(text)


def test_a_message_is_one_line_under_elrun_s_name():
    """Whatever it is made of."""
    stream = io.StringIO()

    Console(stream).say("two\nlines")

    assert "elrun: two lines\n" == stream.getvalue()


def test_a_line_begins_where_others_left_none_unfinished(monkeypatch, capsys):
    """A progress bar or a prompt of a worker has no end of line; only what follows it needs one."""
    monkeypatch.setattr(live_line, "is_after_part", True)
    console = Console()

    console.say("one")
    console.say("two")

    assert "\nelrun: one\nelrun: two\n" == capsys.readouterr().err


def test_what_goes_elsewhere_follows_no_unfinished_line(monkeypatch):
    """Workers write to standard error."""
    monkeypatch.setattr(live_line, "is_after_part", True)
    stream = io.StringIO()

    Console(stream).say("one")

    assert "elrun: one\n" == stream.getvalue()


class Gone(io.StringIO):
    def write(self, text):
        raise BrokenPipeError


def test_a_reader_that_has_gone_fails_nothing():
    """What elrun has to say is less than the job."""
    Console(Gone()).say("anybody there?")


def test_a_closed_stream_fails_nothing():
    """Daemons close what they don't use."""
    stream = io.StringIO()
    stream.close()

    Console(stream).say("anybody there?")


def test_a_process_without_standard_error_fails_nothing(monkeypatch):
    """Python has none where file descriptor 2 was closed."""
    monkeypatch.setattr("sys.stderr", None)

    Console().say("anybody there?")


def test_a_stream_that_knows_ascii_only_gets_ascii():
    """Rather than nothing."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")

    Console(stream).write("…")

    assert b"\\u2026" == stream.buffer.getvalue()


def test_unwritten_lines_are_discarded_at_the_end():
    """Python would try again at exit, fail, and exit with 120."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w")
    console = Console(stream)
    console.say("nobody reads this")

    console.settle()

    stream.close()


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("WARNING", "elrun: careful\n"),
        ("debug", "elrun: details\nelrun: careful\n"),
        ("NO_LEVEL", "elrun: careful\n"),
        ("ERROR", ""),
    ],
)
def test_log_lines_speak_on_the_console(level, expected):
    """From the level on that the user chose."""
    stream = io.StringIO()
    log = logging.getLogger("elrun.agent.anything")

    with logging_to(Console(stream), level):
        log.debug("details")
        log.warning("care%s", "ful")

    assert expected == stream.getvalue()


def test_logging_is_left_as_it_was_found():
    """A program may run elrun and go on."""
    logger = logging.getLogger("elrun")
    before = logger.level, logger.propagate, list(logger.handlers)

    with logging_to(Console(io.StringIO()), "DEBUG"):
        pass

    assert before == (logger.level, logger.propagate, logger.handlers)
