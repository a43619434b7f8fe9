"""The last sentence, where Kubernetes looks for it."""

import os

import pytest
from elrun.launcher.cli import run
from elrun.launcher.termination_log import MOST_BYTES, leave_last_sentence


@pytest.fixture(name="file")
def _file(tmp_path):
    """A termination log, as it is in a container that has been started just now."""
    path = tmp_path / "log"
    path.write_text("")
    return path


def left_in(file, sentence="rank 1 failed", error_file=""):
    leave_last_sentence(sentence, {"TERMINATION_LOG": str(file)}, error_file)
    return file.read_text()


def test_the_sentence_replaces_what_is_there(file):
    """A container that is started again has the same file in some tools."""
    file.write_text("an earlier one, which is longer")
    before = file.stat().st_ino

    assert ("rank 1 failed", before) == (left_in(file), file.stat().st_ino)


def test_what_is_too_long_is_cut_between_characters(file):
    """Kubernetes reads so many bytes."""
    text = left_in(file, "\N{SNOWMAN}" * 5000)

    assert (MOST_BYTES - 1, {"\N{SNOWMAN}"}) == (len(text.encode()), {*text})


def test_a_name_that_no_file_has_yet_is_made(tmp_path):
    """The variable says where it is wanted."""
    assert left_in(tmp_path / "new") == "rank 1 failed"


def test_the_process_s_error_file_stays_as_it_is(file):
    """Its record holds the sentence, and more: the user has put it there."""
    file.write_text("{}")

    assert left_in(file, error_file=str(file)) == "{}"


@pytest.mark.parametrize("kind", ["fifo", "link", "folder", "no folder"])
def test_what_is_no_file_is_left_alone(tmp_path, kind):
    """Nor does it hold up the end."""
    path, other = tmp_path / "log", tmp_path / "other"
    other.write_text("precious")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(other)
    elif kind == "folder":
        path.mkdir()
    else:
        path = tmp_path / "none" / "log"

    leave_last_sentence("rank 1 failed", {"TERMINATION_LOG": str(path)})

    assert other.read_text() == "precious"


@pytest.mark.parametrize(("host", "is_left"), [("10.0.0.1", True), ("", False)])
def test_a_refused_command_leaves_its_sentence_in_kubernetes(file, monkeypatch, host, is_left):
    """As any other end does that is no success; elsewhere such a file may be anything."""
    monkeypatch.setenv("TERMINATION_LOG", str(file))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)

    code = run(["--nproc-per-node", "two", "x.py"])

    left = file.read_text()
    assert (2, is_left) == (code, left.startswith("--nproc-per-node two: give a number"))
