"""`elrun status --all`: a line for each run."""

import pytest
from elrun.launcher import cli
from elrun.launcher.verbs.listing import as_lines


@pytest.fixture(name="status")
def _status(tmp_path, monkeypatch, capfd):
    """Run ``elrun status --all WORDS``; return code, output and errors."""
    monkeypatch.setenv("ELRUN_RUN_DIR", str(tmp_path / "runs"))

    def run(*words):
        return (cli.run(["status", "--all", *words]), *capfd.readouterr())

    return run


def test_runs_stand_below_each_other():
    """What is not known is a dash; nothing acts on a terminal."""
    known = {
        "run_id": "a\x1b",
        "name": "train.py",
        "node": "n0",
        "agent_pid": 7,
        "state": "running",
        "restarts": 2,
        "began_at_s": 40.0,
        "ended_at_s": None,
    }
    rows = as_lines([known, dict.fromkeys(known)], 100.0).splitlines()

    assert [
        "RUN    NAME      HOST  AGENT  STATE    RESTARTS  BEGAN          ENDED",
        "a\\x1b  train.py  n0    7      running  2         1 min 0 s ago  -",
        "-      -         -     -      -        -         -              -",
    ] == rows


def test_where_there_is_none_the_list_is_empty(status):
    """For programs, too."""
    assert (0, "[]\n", "") == status("--format", "json")
    assert 0 == status()[0]


@pytest.mark.parametrize("words", [["job"], ["--watch"]])
def test_a_list_is_of_all_and_at_one_moment(status, words):
    """One sentence says so."""
    code, out, err = status(*words)

    assert (2, "") == (code, out)
    assert "elrun: --all lists runs: give neither RUN nor --watch with it\n" == err
