"""`elrun logs` and `stacks` of some ranks, of ranks that are not there, of ranks that import."""

import re

import pytest
from watching_kit import WAITS, Watching

IMPORTS = """
import os, sys
sys.path.insert(0, os.path.abspath("lib/python3.11/site-packages"))
os.write(1, b"ready\\n")
import slow
"""
SLOW = """
import threading
threading.Event().wait()
"""


@pytest.fixture(name="watching")
def _watching(elrun, tmp_path):
    return Watching(elrun, tmp_path / "runs")


def test_lists_and_spans_of_ranks_are_shown(watching, script):
    """By both verbs, in the same words."""
    watching.start("--rdzv-id", "four", "--nproc-per-node", 4, script(WAITS), ready=4)

    logs = watching.run("logs", "--rank", "0,2-3")
    stacks = watching.run("stacks", "--rank", "0,2-3")

    assert (0, "") == (logs.returncode, logs.stderr)
    assert ["0", "2", "3"] == re.findall(r"^rank (\d) is ready$", logs.stdout, re.MULTILINE)
    assert (0, "") == (stacks.returncode, stacks.stderr)
    assert stacks.stdout.startswith("ranks 0, 2-3 (")


@pytest.mark.parametrize("verb", ["logs", "stacks"])
def test_a_rank_that_is_not_there_is_named(watching, script, verb):
    """Alone, and beside others, which are shown; it is not said that it printed nothing."""
    watching.start("--rdzv-id", "two", "--nproc-per-node", 2, script(WAITS), ready=2)

    alone, beside = (watching.run(verb, "--rank", ranks) for ranks in ("5", "1,5,7-9"))

    assert (1, "", 1) == (alone.returncode, alone.stdout, len(alone.stderr.splitlines()))
    assert re.search(r"has no rank 5 .*: it has ranks 0-1", alone.stderr)
    assert (0, True) == (beside.returncode, "rank 1" in beside.stdout)
    assert re.search(r"has no ranks 5, 7-9 .*: it has ranks 0-1", beside.stderr)


@pytest.mark.parametrize("verb", ["logs", "stacks"])
def test_what_is_no_rank_is_refused_in_a_sentence(watching, verb):
    """It says how several are given."""
    done = watching.run(verb, "--rank", "0;1")

    sentence = (
        "elrun: invalid value for '--rank': '0;1' is no rank: give one, as 3, or several: 0,3-5 "
        f"(elrun {verb} --help)\n"
    )
    assert (2, "", sentence) == (done.returncode, done.stdout, done.stderr)


def test_ranks_that_import_stand_together_with_the_module(watching, script, tmp_path):
    """Frames of Python's import system tell nobody anything, and are left out."""
    folder = tmp_path / "lib" / "python3.11" / "site-packages"
    folder.mkdir(parents=True)
    (folder / "slow.py").write_text(SLOW)
    watching.start("--nproc-per-node", 2, script(IMPORTS), ready=2)

    done = watching.run("stacks")

    head = done.stdout.splitlines()[0]
    assert re.fullmatch(r"ranks 0-1 \(.*\): in the import of slow \(script\.py:5\)", head), done
    assert ('slow.py", line 3' in done.stdout, "frozen" in done.stdout) == (True, False)
