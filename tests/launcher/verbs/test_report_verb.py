"""``elrun report``: what it says where it can't show anything, and where it writes."""

import json
import os

import pytest
from elrun.launcher import cli


@pytest.fixture(name="report")
def _report(tmp_path, monkeypatch, capfd):
    """Run ``elrun report WORDS`` where one run is kept; return code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ELRUN_RUN_DIR", str(tmp_path / "runs"))
    folder = tmp_path / "runs" / "job_n0_1.run"
    folder.mkdir(parents=True)
    moment = "2026-11-27T00:00:00.000+00:00"
    (folder / "report.json").write_text(
        json.dumps(
            {
                "version": 1,
                "elrun": "0.1.0",
                "run_id": "job",
                "name": "x/train.py",
                "node": "n0",
                "agent_pid": 1,
                "state": "rendezvous failed",
                "exit_code": 75,
                "reason": "nobody came\x1b[31m",
                "began_at": moment,
                "ended_at": moment,
                "duration_s": 0.0,
                "attempts_left_out": 0,
                "attempts": [],
                "root": None,
                "ranks": [],
                "missing_nodes": [],
                "places": None,
                "config": {},
            }
        )
    )

    def run(*words):
        code = cli.run(["report", *map(str, words)])
        return (code, *capfd.readouterr())

    return run


def test_the_latest_run_is_summed_up(report):
    """As text, without anything that acts on a terminal."""
    code, out, err = report()

    assert (0, "") == (code, err)
    assert out.startswith("train.py (run job): rendezvous failed: nobody came\\x1b[31m\n")


@pytest.mark.parametrize("words", [["-o", "r.html", "job"], ["job", "--output=r.html"]])
def test_a_page_is_written(report, tmp_path, words):
    """Options may stand anywhere."""
    assert (0, "", "elrun: the page is in r.html\n") == report(*words)
    assert "<title>train.py (run job): rendezvous failed" in (tmp_path / "r.html").read_text()


def test_a_page_is_replaced_as_a_whole(report, tmp_path):
    """Also through a link; nothing is left beside it."""
    (tmp_path / "r.html").symlink_to("real.html")
    (tmp_path / "real.html").write_text("old")

    report("-o", "r.html")

    assert (tmp_path / "real.html").read_text().startswith("<!DOCTYPE html>")
    assert {"r.html", "real.html", "runs"} == set(os.listdir(tmp_path))


def test_a_page_may_go_to_standard_output(report):
    """And to a pipe, with a name such as ``/dev/stdout``."""
    _, out, _ = report("-o", "-")

    assert out.startswith("<!DOCTYPE html>")


def test_the_help_is_answered(report):
    """With the form of the command."""
    code, out, _ = report("--help")

    assert (0, "Usage: elrun report [OPTIONS] [RUN]...") == (code, out.partition("\n")[0])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--colour"], "no such option"),
        (["-o"], "option '-o' requires an argument"),
        (["-o", ""], "elrun report --output: give the path of a file"),
        (["-o", "none/r.html"], "the page can't be written to none/r.html: No such file or"),
        (["-o", "/dev/full"], "the page can't be written to /dev/full: No space left on device"),
        (["-o", "runs"], "the page can't be written to runs: Is a directory"),
        (["runs"], "runs/report.json can't be read: No such file or directory"),
    ],
)
def test_what_can_not_be_done_is_one_sentence(report, words, sentence):
    """With exit code 2, as for every command that can't be used."""
    code, out, err = report(*words)

    assert (2, "", 1) == (code, out, len(err.splitlines()))
    assert err.startswith(f"elrun: {sentence}")


def test_a_run_that_is_not_there_is_named_as_by_all_verbs(report):
    """With exit code 1: the command is right, and there is no such run."""
    code, out, err = report("jub")

    assert (1, "") == (code, out)
    lines = ["elrun: there is no run 'jub' of yours on this host", "  did you mean job?"]
    assert lines == err.splitlines()[:2]
    assert err.endswith("\n  ended: job (train.py, agent 1)\n")
