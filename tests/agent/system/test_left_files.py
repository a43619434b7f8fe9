"""Files that stand where a worker can put anything."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from elrun.agent.system import left_files
from elrun.agent.system.left_files import LeftFile, LeftFileReader, Reading

HUNG_FILE_SYSTEM = """
import ctypes, os, sys, time
from elrun.agent.system.left_files import LeftFileReader

folder = sys.argv[1]
fuse = os.open("/dev/fuse", os.O_RDWR)  # whoever should answer never does
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
if ctypes.CDLL(None, use_errno=True).mount(b"hung", folder.encode(), b"fuse", 0, options):
    os._exit(77)
reader = LeftFileReader(patience_s=0.2)
path = f"{folder}/error.json"
problem = reader.read_beginning(path, 10).problem
print([problem, reader.written_ns([path]), reader.read_end(path, 1).text], flush=True)
os.close(fuse)  # which ends all that waits
os._exit(0)
"""


def put_pipe(path):
    os.mkfifo(path)


def put_folder(path):
    os.mkdir(path)


def put_endless_device(path):
    os.symlink("/dev/zero", path)


def put_socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def put_link_to_pipe(path):
    os.mkfifo(f"{path}.pipe")
    os.symlink(f"{path}.pipe", path)


def put_ring_of_links(path):
    os.symlink(path, path)


ODD_THINGS = [
    put_pipe,
    put_folder,
    put_endless_device,
    put_socket,
    put_link_to_pipe,
    put_ring_of_links,
]


@pytest.mark.parametrize("put", ODD_THINGS)
def test_only_a_regular_file_is_read(tmp_path, put):
    """Whatever else stands there is named as a problem, and opens no wait."""
    path = tmp_path / "error.json"
    put(path)

    file = LeftFileReader().read_beginning(str(path), 10)

    assert (b"", True) == (file.text, bool(file.problem))
    assert [0] == LeftFileReader().written_ns([str(path)])


@pytest.mark.parametrize("path", ["", "nowhere/error.json", "no\0file"])
def test_no_file_is_an_empty_one(tmp_path, path):
    """A worker that left nothing is the rule."""
    file = LeftFileReader().read_end(path and str(tmp_path / path), 10)

    assert b"" == file.text


def test_no_more_than_the_limit_is_read(tmp_path):
    """Ten gigabytes of zeros cost as much as ten bytes."""
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 10 << 30)
    reader = LeftFileReader()

    files = [reader.read_beginning(str(path), 10), reader.read_end(str(path), 10)]

    assert [(bytes(10), False)] * 2 == [(file.text, file.is_whole) for file in files]


def test_beginning_and_end_of_a_file(tmp_path):
    """A file that fits is whole, from either side."""
    path = tmp_path / "file"
    path.write_text("0123456789")
    reader = LeftFileReader()

    ends = [reader.read_end(str(path), count) for count in (3, 10)]

    assert [(b"789", False), (b"0123456789", True)] == [(f.text, f.is_whole) for f in ends]
    assert (b"012", False) == reader.read_beginning(str(path), 3)[:2]


def test_a_lease_on_the_file_makes_nobody_wait(tmp_path):
    """A process that holds one has all others wait for up to 45 s until they may open the file."""
    path = tmp_path / "leased"
    path.write_text("text")
    previous = signal.signal(signal.SIGIO, signal.SIG_IGN)
    with open(path, "r+") as holder:
        fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        file = LeftFileReader(patience_s=30).read_beginning(str(path), 10)
        fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    signal.signal(signal.SIGIO, previous)

    assert LeftFile(problem="can't be read (Resource temporarily unavailable)") == file


@pytest.mark.usefixtures("no_threads")
def test_without_threads_a_file_is_read_all_the_same(tmp_path):
    """Most file systems answer."""
    path = tmp_path / "file"
    path.write_text("text")

    assert b"text" == LeftFileReader().read_end(str(path), 10).text


def test_a_delay_is_told_once_and_the_wait_goes_on(monkeypatch):
    """What is more urgent than the answer is done meanwhile, and asks nothing itself."""
    monkeypatch.setattr(left_files, "DELAY_S", 0.01)
    gate, meanwhile = threading.Event(), []

    def go_on():
        meanwhile.append(reader.written_ns(["anything"]))
        gate.set()

    reader = LeftFileReader(patience_s=60, on_delay=go_on)
    answer = reader._call(lambda: gate.wait(60))

    assert (True, [[0]]) == (answer, meanwhile)


@pytest.mark.integration
def test_a_file_system_that_hangs_costs_the_patience_once(tmp_path):
    """What it holds counts as unreadable, and nothing more is asked of it."""
    command = ["unshare", "-rm", sys.executable, "-c", HUNG_FILE_SYSTEM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        pytest.skip("no file system can be mounted here")

    assert "['is on a file system that does not answer', [0], b'']\n" == done.stdout


def test_a_file_that_becomes_a_pipe_is_not_waited_for(tmp_path):
    """Between the look and the opening, another one may stand there."""
    pipe, path = tmp_path / "pipe", tmp_path / "file"
    os.mkfifo(pipe)
    path.write_text("x")
    swap = f"ln -f {{}} {path}.now; mv -f {path}.now {path}.at; "
    script = f"while :; do {swap.format(path)} {swap.format(pipe)} done 2>/dev/null"
    swapper = subprocess.Popen(["sh", "-c", script], start_new_session=True)
    try:
        reader, end = LeftFileReader(patience_s=30), time.monotonic() + 0.2
        while time.monotonic() < end:
            assert reader.read_beginning(f"{path}.at", 10).text in (b"x", b"")
    finally:
        os.killpg(swapper.pid, signal.SIGKILL)
        swapper.wait()


def test_a_file_without_a_word_is_removed_when_it_is_taken(tmp_path):
    """Another one stays, and what is no regular file."""
    for name, text in (("empty", ""), ("full", "stacks")):
        (tmp_path / name).write_text(text)
    (tmp_path / "folder").mkdir()
    reader = LeftFileReader()

    found = [reader.take_end(str(tmp_path / name), 3).text for name in ("empty", "full", "folder")]

    assert [b"", b"cks", b""] == found
    assert ["folder", "full"] == sorted(path.name for path in tmp_path.iterdir())


def test_what_is_read_ahead_takes_one_call_and_counts_once(tmp_path, monkeypatch):
    """What stands behind a file with a word is not read; the next question sees the file anew."""
    record, kept, stacks = (tmp_path / name for name in ("record", "kept", "stacks"))
    record.write_text("first")
    stacks.write_text("")
    calls = []
    start = left_files.Call
    monkeypatch.setattr(
        left_files, "Call", lambda *given, **named: _count(calls, start, *given, **named)
    )
    reader = LeftFileReader()

    written = reader.read_ahead(
        [
            (Reading(str(record), 9), Reading(str(stacks), 9, is_taken=True)),
            (Reading(str(kept), 9), Reading(str(stacks), 9, is_taken=True)),
        ]
    )
    ahead = [reader.read_beginning(str(record), 9).text, reader.take_end(str(stacks), 9).text]
    record.write_text("second")
    anew = reader.read_beginning(str(record), 9).text

    assert ([b"first", b""], b"second", 2) == (ahead, anew, len(calls))
    assert ([True, False], False) == ([bool(each) for each in written], stacks.exists())


def _count(calls, start, *given, **named):
    calls.append(given)
    return start(*given, **named)


def test_what_was_not_read_ahead_in_time_is_asked_for_again(monkeypatch):
    """A file system that answers late is no file system without files."""
    answers = iter([None, LeftFile(b"late")])
    reader = LeftFileReader()
    monkeypatch.setattr(reader, "_call", lambda *_given: next(answers))

    assert [None] == reader.read_ahead([[Reading("anything", 9)]])
    assert b"late" == reader.read_beginning("anything", 9).text
