"""Files and folders that the user names are refused while nothing has been made yet."""

import os

import pytest


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("-", "standard output is the workers'"),
        ("reports/", "this is a folder; give the path of a file"),
        ("reports/..", "this is a folder"),
        ("${hostnam}.json", "did you mean ${hostname}?"),
        ("${run_id}.json", "${run_id} is not known; give ${hostname} or ${pid}"),
        ("${hostname.json", "has no closing brace"),
        ("no/such/r.json", "there is no folder "),
        ("folder", "this is a folder; give the path of a file"),
        ("/dev/null", "this is no regular file"),
        ("/proc/r.json", "nothing can be written in /proc"),
        ("x.py", "there is another file, no report"),
    ],
)
def test_a_report_that_can_t_be_kept_is_refused(elrun, tmp_path, path, sentence):
    """By its option, before anything starts; nothing is made."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "x.py").write_text("print()\n")
    there = sorted(os.listdir(tmp_path))

    refusal = elrun.refusal("--report", path, "x.py")

    assert refusal.startswith(f"--report {path}: ")
    assert sentence in refusal
    assert there == sorted(os.listdir(tmp_path))


@pytest.mark.parametrize("path", ["r.json", "${hostname}.json", "${pid}-${hostname}", "$x.json"])
def test_a_report_that_can_be_kept_is_not_made_yet(elrun, tmp_path, path):
    """Making it is the agent's."""
    elrun.plan("--report", path, "x.py")

    assert ["x.py"] == os.listdir(tmp_path)


@pytest.mark.parametrize("path", ["new/deep/", "new/deep/events", "x.py/events"])
def test_events_are_not_to_make_a_tree_of_folders(elrun, tmp_path, path):
    """A slip of the fingers would send them where nobody looks."""
    refusal = elrun.refusal("--event-log-handler", f"file:{path}", "x.py")

    assert "it can't be kept: " in refusal
    assert ["x.py"] == os.listdir(tmp_path)


@pytest.mark.parametrize("path", ["", "events", "new/", "new/events"])
def test_the_last_folder_of_events_may_be_missing(elrun, path):
    """It is made with the first event."""
    assert f"file:{path}" == (
        elrun.plan("--event-log-handler", f"file:{path}", "x.py").config.event_log_handler
    )
