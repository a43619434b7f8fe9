"""A run's history: each line stands for itself, and the file stays within its limit."""

import json
import os

import pytest
from elrun.agent.output.history_file import (
    FIRST_EVENTS,
    LATEST_EVENTS,
    HistoryFile,
    read_history,
    thinned,
)
from elrun.agent.output.run_folders import RunFolder


def sample(number, more=""):
    return b'{"kind":"sample","at":%d,"x":"%s"}\n' % (number, more.encode())


def event(number):
    return b'{"kind":"event","at":%d}\n' % number


def numbers(lines):
    return [json.loads(line)["at"] for line in lines]


@pytest.fixture(name="folder")
def _folder(tmp_path):
    folder = RunFolder(lambda: str(tmp_path / "runs"), "job")
    yield folder
    folder.release()


def path_in(folder):
    return os.path.join(folder.path(), "history.jsonl")


def test_lines_come_back_in_their_order(folder):
    """With what they tell of."""
    file = HistoryFile(folder)
    file.append("event", {"at": 1.5, "event": "joining"})
    file.append("sample", {"at": 2.5})
    file.close()

    assert [
        {"kind": "event", "at": 1.5, "event": "joining"},
        {"kind": "sample", "at": 2.5},
    ] == list(read_history(path_in(folder)))


def test_the_file_is_private(folder):
    """Also where the folder's permissions are changed."""
    file = HistoryFile(folder)
    file.append("event", {"at": 1})
    file.close()

    assert 0o600 == os.stat(path_in(folder)).st_mode & 0o777


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_torn_last_line_is_left_out(tmp_path, cut):
    """The agent was killed while it wrote."""
    path = tmp_path / "history.jsonl"
    path.write_bytes((event(1) + sample(2))[:-cut])

    assert [1] == [each["at"] for each in read_history(path)] or cut == 1


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"\0\0\0", b"[1]", b"7", b'{"at":1}', b'{"kind":"event"}', b"\xff\xfe"),
        *(b'{"kind":2,"at":1}', b'{"kind":"event","at":"x"}', b'{"kind":"event","at":null}'),
        *(b'{"kind":"event","at":NaN}', b'{"kind":"event","at":1e300}', b"[" * 100_000),
        *(b'{"kind":"event","at":true}', b'{"kind":"event","at":1,"event":[]}'),
    ],
)
def test_what_is_no_line_of_a_history_is_left_out(tmp_path, line):
    """The lines around it are read."""
    path = tmp_path / "history.jsonl"
    path.write_bytes(event(1) + line + b"\n" + event(2))

    assert [1, 2] == [each["at"] for each in read_history(path)]


def test_of_the_older_samples_every_second_one_goes():
    """The latest quarter stays whole, and so do all events."""
    lines = [event(0), *(sample(number) for number in range(1, 13)), event(13)]
    size = sum(map(len, lines))

    assert [0, 1, 3, 5, 7, 9, 10, 11, 12, 13] == numbers(thinned(lines, size - 1))


@pytest.mark.parametrize("most", [0, 1, 40, 100, 1_000, 10_000])
def test_a_history_can_always_be_thinned(most):
    """To its events, at the end."""
    lines = [event(0), *(sample(number, "x" * 50) for number in range(1, 50))]

    kept = thinned(lines, most)

    assert kept[0] == lines[0]
    assert sum(map(len, kept)) <= most or kept == [event(0)]


def test_of_too_many_events_the_first_and_the_latest_stay():
    """A job that restarts for ever has a bounded history, too."""
    total = FIRST_EVENTS + LATEST_EVENTS + 50

    kept = numbers(thinned([event(number) for number in range(total)], 10**9))

    assert [*range(FIRST_EVENTS), *range(FIRST_EVENTS + 50, total)] == kept


def test_a_file_never_exceeds_its_limit(folder):
    """However long the job runs, and its latest samples are there."""
    file = HistoryFile(folder, most_bytes=5_000)
    sizes = set()
    for number in range(1_000):
        file.append("event" if number % 100 == 0 else "sample", {"at": number, "x": "y" * 20})
        sizes.add(os.stat(path_in(folder)).st_size)
    file.close()

    found = [each["at"] for each in read_history(path_in(folder))]
    assert max(sizes) <= 5_000
    assert [*range(970, 1000)] == found[-30:]
    assert {*range(0, 1_000, 100)} <= {*found}
    assert sorted(found) == found
    assert ["history.jsonl"] == os.listdir(folder.path())


def test_a_full_disk_is_an_error(small_disk):
    """The caller ends the history then."""
    folder = RunFolder(lambda: str(small_disk), "job")
    file = HistoryFile(folder)

    def fill():
        for number in range(1_000):
            file.append("sample", {"at": number, "x": "y" * 4_000})

    with pytest.raises(OSError, match="No space left"):
        fill()
    file.close()
    folder.release()

    assert [0] == [each["at"] for each in read_history(path_in(folder))][:1]
