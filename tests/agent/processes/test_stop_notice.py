"""What is said while a signal stops the workers."""

import logging
import math
import re
import signal
import threading

import pytest
from elrun.agent.processes.stop_notice import sentence_of_stop, stop_notice


class Ear(logging.Handler):
    """Hears what is said, and when something is."""

    def __init__(self):
        super().__init__()
        self.sentences = []
        self.has_heard = threading.Event()

    def emit(self, record):
        self.sentences.append(record.getMessage())
        self.has_heard.set()


@pytest.fixture(name="ear")
def _ear():
    ear = Ear()
    logger = logging.getLogger("elrun.agent.processes.stop_notice")
    logger.addHandler(ear)
    yield ear
    logger.removeHandler(ear)


@pytest.mark.parametrize(
    ("number", "grace_s", "heeds_ctrl_c", "expected"),
    [
        (2, 30, True, "SIGINT: the workers have 30 s to end; another Ctrl-C kills them at once"),
        (15, 2.5, True, "SIGTERM: the workers have 2.5 s to end; a Ctrl-C kills them at once"),
        (15, 30, False, "SIGTERM: the workers have 30 s to end"),
        (10, math.inf, False, "SIGUSR1: the workers have all the time they need to end"),
    ],
)
def test_the_sentence_says_how_long_and_what_hurries(number, grace_s, heeds_ctrl_c, expected):
    """And nothing of a Ctrl-C that elrun would not hear."""
    assert expected == sentence_of_stop(number, grace_s, heeds_ctrl_c=heeds_ctrl_c)


def test_it_is_said_while_workers_end(ear):
    """A thread says it, so that nothing waits for a console."""
    with stop_notice(signal.SIGINT, 30, heeds_ctrl_c=True, patience_s=0):
        assert ear.has_heard.wait(30)

    (sentence,) = ear.sentences
    (ends_at,) = re.findall(r"\d\d:\d\d:\d\d", sentence)
    assert sentence_of_stop(signal.SIGINT, 30, ends_at, heeds_ctrl_c=True) == sentence


def test_without_a_terminal_nothing_is_said_of_ctrl_c(ear, monkeypatch):
    """Under a scheduler nobody can press it; after a SIGINT somebody has."""
    monkeypatch.setattr("os.isatty", lambda _: False)
    for number in (signal.SIGTERM, signal.SIGINT):
        ear.has_heard.clear()
        with stop_notice(number, 30, heeds_ctrl_c=True, patience_s=0):
            assert ear.has_heard.wait(30)

    assert [False, True] == ["Ctrl-C" in sentence for sentence in ear.sentences]


def test_nothing_is_said_of_what_is_over_in_time(ear):
    """Most workers end at once; the last line says so."""
    with stop_notice(signal.SIGTERM, 30, heeds_ctrl_c=True, patience_s=3600):
        pass

    for thread in threading.enumerate():
        if thread.name == "elrun-notice":
            thread.join(30)
    assert [] == ear.sentences


def test_workers_end_without_a_word_where_there_is_no_thread(ear, no_threads):
    """The word is the lesser thing."""
    with stop_notice(signal.SIGTERM, 30, heeds_ctrl_c=True, patience_s=0):
        pass

    assert [] == ear.sentences
