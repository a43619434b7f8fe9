"""A file that is whole at every moment."""

import os
import stat
import threading

import pytest
from elrun.agent.output.whole_file import WholeFile


@pytest.fixture(name="path")
def _path(tmp_path):
    return tmp_path / "report.json"


def test_a_version_replaces_the_one_before(path):
    """Nothing else is left beside it."""
    file = WholeFile(str(path), "the report")
    file.write_first(b"first version")
    first = path.read_bytes()
    file.write(b"second")
    file.settle()

    assert (b"first version", b"second", ["report.json"]) == (
        first,
        path.read_bytes(),
        os.listdir(path.parent),
    )


def test_the_newest_version_is_written_in_the_end(path):
    """However fast they come."""
    file = WholeFile(str(path), "the report")
    for number in range(500):
        file.write(b"%d" % number)
    file.settle()

    assert b"499" == path.read_bytes()


def test_a_reader_never_sees_a_half(path):
    """The file is exchanged, not rewritten."""
    file = WholeFile(str(path), "the report")
    file.write_first(b"0" * 100_000)
    seen, is_over = set(), threading.Event()

    def read():
        while not is_over.is_set():
            data = path.read_bytes()
            seen.add((len(data), len(set(data))))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(100):
        file.write(b"%d" % (number % 10) * 100_000)
    file.settle()
    is_over.set()
    reader.join()

    assert {(100_000, 1)} == seen


def test_a_link_stays_a_link(path, tmp_path):
    """The file that it leads to is replaced."""
    target = tmp_path / "target"
    target.touch()
    path.symlink_to(target)
    WholeFile(str(path), "the report").write_first(b"x")

    assert (True, b"x") == (path.is_symlink(), target.read_bytes())


def test_a_new_file_has_the_permissions_of_any_new_file(path):
    """The user's mask decides."""
    before = os.umask(0o027)
    try:
        WholeFile(str(path), "the report").write_first(b"x")
    finally:
        os.umask(before)

    assert 0o640 == stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("kind", ["folder", "pipe", "missing folder", "device"])
def test_what_is_no_regular_file_is_refused(path, kind):
    """A device that was replaced would be none any more."""
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/null")
    else:
        path = path / "report.json"

    with pytest.raises(OSError, match=r"regular file|No such file"):
        WholeFile(str(path), "the report").write_first(b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_no_thread_is_left_at_the_end(path):
    """A program may launch many jobs."""
    before = threading.enumerate()
    file = WholeFile(str(path), "the report")
    file.write(b"x")
    file.settle()
    threads = [each for each in threading.enumerate() if each not in before]
    for thread in threads:
        thread.join(10)
    file.write(b"y")
    file.settle()

    assert (b"y", [False] * len(threads)) == (
        path.read_bytes(),
        [thread.is_alive() for thread in threads],
    )


def test_a_version_that_can_not_be_written_is_named_once(path, caplog):
    """The job goes on."""
    file = WholeFile(str(path), "the report")
    file.write_first(b"x")
    path.unlink()
    path.mkdir()
    for _ in range(3):
        file.write(b"y")
        file.settle()

    assert [f"the report can't be written to {path}: this is no regular file"] == [
        record.getMessage() for record in caplog.records
    ]


def test_without_a_thread_the_last_version_is_written_at_the_end(path, monkeypatch):
    """The system may grant none."""

    def refuse(_):
        raise RuntimeError("can't start new thread")

    file = WholeFile(str(path), "the report")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    file.write(b"x")
    file.write(b"y")
    file.settle()

    assert b"y" == path.read_bytes()
