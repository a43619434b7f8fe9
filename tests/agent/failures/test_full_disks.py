"""Which of a machine's full file systems an exception is about."""

import os

import pytest
from elrun.agent.failures.machine_facts import _nearest

OTHERS = ("/elsewhere/full", 1)


@pytest.mark.parametrize(
    ("place", "words", "is_meant"),
    [
        ("work/disk", "", True),  # beneath the worker's folder
        ("", "", True),  # around it
        ("other", "", False),
        ("other", "No space left on device: '{}/other/x.pt'", True),
        ("wor", "", False),
    ],
)
def test_those_around_the_worker_or_in_its_words_are_meant(
    tmp_path, monkeypatch, place, words, is_meant
):
    """Those of other users are full for as long as they like."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    mine = (str(tmp_path / place), 2)

    found = _nearest((OTHERS, mine), words.format(tmp_path), os.getpid())

    assert ((mine,) if is_meant else (OTHERS, mine)) == found


def test_without_a_process_all_are_told():
    """It may have been reaped."""
    assert (OTHERS,) == _nearest((OTHERS,), "", 0)
