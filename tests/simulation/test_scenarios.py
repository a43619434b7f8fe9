"""Scenarios of rounds as text: commands, and what the nodes print.

``pytest tests/simulation/test_scenarios.py --rewrite`` writes what the commands print now into the
files: read the difference before you commit it.
"""

import difflib
from pathlib import Path

import datadriven
import pytest
from scenario import Scenario

FOLDER = Path(__file__).parent / "scenarios"


def play(text):
    """Return a scenario's file with what its commands print now."""
    return datadriven.run(text, Scenario().execute)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_a_scenario_goes_as_its_file_says(path, request):
    """Each step of a file prints what stands beneath."""
    expected = path.read_text()
    actual = play(expected)

    if request.config.getoption("rewrite"):
        path.write_text(actual)
    elif expected != actual:
        lines = (text.splitlines(keepends=True) for text in (expected, actual))
        pytest.fail("".join(difflib.unified_diff(*lines, path.name, "now")), pytrace=False)


def test_a_scenario_that_goes_otherwise_is_seen():
    """What stands in a file is not taken for what is printed."""
    text = "the run needs 1 node\na joins\n----\na: is in round 7\n"

    assert play(text) == (
        "the run needs 1 node\na joins\n----\na: is in round 0: group rank 0 of 1, "
        "rank 0 of 1, restart 0, workers meet at a\n"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a dances\n----\n", "no such command: a dances"),
        ("a joins\n", "no ---- after: a joins"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(text, words):
    """A misspelt command does not pass for one that prints nothing."""
    with pytest.raises(ValueError, match=words):
        play(text)
