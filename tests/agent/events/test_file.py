"""The file of events: rotation, disks that are full, and others who move or write it."""

import logging
import os

import pytest
from elrun.agent.events.file import EventFile


def record_of(text):
    return logging.LogRecord("events", logging.INFO, "", 0, text, None, None)


def write(file, *lines):
    for line in lines:
        file.handle(record_of(line))


@pytest.fixture(name="path")
def _path(tmp_path):
    return tmp_path / "events.jsonl"


@pytest.fixture(name="open_file")
def _open_file(path):
    """Make a handler that raises what it would have told."""
    files = []

    def open_file(**options):
        file = EventFile(str(path), **options)
        file.handleError = raise_again
        files.append(file)
        return file

    yield open_file
    for file in files:
        file.close()


def raise_again(record):
    raise  # noqa: PLE0704  it is called while the error is handled


def test_each_event_is_a_line_at_the_end(path, open_file):
    """What is there already is kept."""
    path.write_text("old\n")
    write(open_file(), "first", "second")

    assert "old\nfirst\nsecond\n" == path.read_text()


def test_a_missing_folder_is_made(tmp_path):
    """At the first event, not before."""
    file = EventFile(str(tmp_path / "a" / "events"))
    assert not (tmp_path / "a").exists()

    write(file, "event")
    file.close()

    assert "event\n" == (tmp_path / "a" / "events").read_text()


@pytest.mark.parametrize("name", ["there", "not-there/"])
def test_a_directory_gets_a_file_for_this_process(tmp_path, name):
    """One that is there, or a path that ends with a slash."""
    (tmp_path / "there").mkdir()

    expected = tmp_path / name / f"events_{os.uname().nodename}_{os.getpid()}.jsonl"
    assert str(expected) == EventFile(f"{tmp_path}/{name}").path


def test_a_full_file_becomes_an_older_one(path, open_file, tmp_path):
    """Each file has what it has room for; the oldest goes."""
    write(open_file(max_bytes=10, older_files=2), *(f"line{n}" for n in range(7)))

    assert {
        "events.jsonl": "line6\n",
        "events.jsonl.1": "line5\n",
        "events.jsonl.2": "line4\n",
    } == {each.name: each.read_text() for each in tmp_path.iterdir()}


def test_a_line_that_is_too_long_has_a_file_of_its_own(path, open_file, tmp_path):
    """It is not cut, and the file before it is rotated once."""
    write(open_file(max_bytes=10), "short", "x" * 100, "short")

    assert ["short\n", "x" * 100 + "\n", "short\n"] == [
        (tmp_path / f"events.jsonl{suffix}").read_text() for suffix in (".2", ".1", "")
    ]


def test_agents_of_one_host_may_share_a_file(path, open_file, tmp_path):
    """Whichever of them rotates it, no line is lost, and none is written where nobody looks."""
    one, other = (open_file(max_bytes=20, older_files=9) for _ in range(2))
    for number in range(20):
        write((one, other)[number % 2], f"{number:05}")

    files = sorted(tmp_path.iterdir(), key=lambda each: each.suffix.replace(".jsonl", ".0"))
    lines = [line for each in reversed(files) for line in each.read_text().splitlines()]
    assert [f"{number:05}" for number in range(20)] == lines


def test_a_file_that_another_agent_rotates_first_is_rotated_once(path, open_file, monkeypatch):
    """Both have found it full; the second one to get the lock sees that it is done."""

    def flock(fd, how):
        path.rename(f"{path}.1")
        path.write_text("other\n")

    path.write_text("full full\n")
    monkeypatch.setattr("fcntl.flock", flock)
    write(open_file(max_bytes=15), "too long")

    assert ("other\ntoo long\n", "full full\n") == (
        path.read_text(),
        path.with_suffix(".jsonl.1").read_text(),
    )


@pytest.mark.parametrize("move", [os.remove, lambda path: os.rename(path, f"{path}.old")])
def test_a_file_that_somebody_moves_is_made_anew(path, open_file, move):
    """As logrotate does it."""
    file = open_file()
    write(file, "first")
    move(path)
    write(file, "second")

    assert "second\n" == path.read_text()


def test_a_line_that_was_cut_off_spoils_no_other(path, open_file):
    """The next event begins a line of its own."""
    path.write_text('{"name": "cut o')
    write(open_file(), "{}")

    assert '{"name": "cut o\n{}\n' == path.read_text()


def test_what_is_no_file_is_never_rotated(path, open_file, tmp_path):
    """``file:/dev/null`` must not move the device away: here a pipe stands for it."""
    os.mkfifo(path)
    write(open_file(max_bytes=1), "first", "second")

    assert [path] == list(tmp_path.iterdir())


def test_a_fault_is_told_as_the_standard_library_does(path):
    """``handleError`` gets it; nothing is raised."""
    path.symlink_to("/dev/full")
    file = EventFile(str(path))
    told = []
    file.handleError = told.append
    write(file, "lost")
    file.close()

    assert ["lost"] == [record.getMessage() for record in told]


@pytest.mark.integration
def test_a_disk_with_room_again_is_written_to_again(small_disk):
    """What came meanwhile is lost, and at most one line is cut."""
    file = EventFile(str(small_disk / "events"))
    told = []
    file.handleError = told.append
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 60_000)
    write(file, *["before " + "x" * 1_000] * 10)
    ballast.unlink()
    write(file, "after")
    file.close()

    lines = (small_disk / "events").read_text().splitlines()
    assert told
    assert "after" == lines[-1]
    assert {1_007} == {len(line) for line in lines[:-2]}
