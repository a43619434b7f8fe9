"""What workers tell the benchmark while it waits."""

import os

import pytest
from notes import Note, Notes
from rows import FailedError


@pytest.fixture(name="notes")
def _notes(tmp_path):
    notes = Notes(tmp_path / "notes")
    yield notes
    notes.close()


def write(notes, text):
    pipe = os.open(notes.path, os.O_WRONLY)
    os.write(pipe, text)
    os.close(pipe)


def test_notes_come_in_their_order_even_in_pieces(notes):
    """A reader may meet a line before its end has come."""
    write(notes, b"alive 0 1 2 33 4.5\nde")
    assert [Note("alive", 0, 1, 2, 33, 4.5)] == notes.now()

    write(notes, b"ath 1 0 2 34 5.5\n")

    assert Note("death", 1, 0, 2, 34, 5.5) == notes.now()[1]


def test_the_first_ones_of_a_kind_are_given_and_later_ones_kept(notes):
    """What has come before the question counts."""
    write(notes, b"alive 0 0 2 1 1\ndeath 0 0 2 1 2\nalive 0 1 2 3 3\nalive 0 1 2 4 4\n")

    found = notes.wait(2, lambda note: note.event == "alive", 0)

    assert [1, 3] == [note.pid for note in found]
    assert 4 == len(notes.now())


def test_what_does_not_come_is_a_failure_in_words(notes):
    """They are the table's."""
    with pytest.raises(FailedError, match="not in 0 s"):
        notes.wait(1, lambda note: note.event == "alive", 0)
