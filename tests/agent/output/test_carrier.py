"""What workers print on a standard error that is no terminal: carried as it is, its end kept."""

import contextlib
import fcntl
import os
import select
import subprocess
import sys
import threading

import pytest
from elrun.agent.output.carrier import KEPT_BYTES, Carrier
from elrun.agent.output.specs import is_end_kept, is_one_file
from elrun.rendezvous import threads

PATIENCE_S = 60


@pytest.fixture(name="target")
def _target():
    """A pipe, as standard error: the reading and the writing end."""
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.fixture(name="carriers")
def _carriers(target):
    """Make carriers for so many ranks; they are closed afterwards."""
    made = []

    def make(*ranks, **settings):
        made.append(Carrier(ranks or (0,), target=target[1], **settings))
        return made[-1]

    yield make
    for each in made:
        each.drain()


def worker(carrier, rank=0):
    """Return a descriptor as a worker inherits it."""
    return os.dup(carrier.stderr_fd(rank))


def read(reader, size):
    """Return so many bytes, once they are there."""
    text = b""
    while len(text) < size:
        assert select.select([reader], [], [], PATIENCE_S)[0]
        text += os.read(reader, size - len(text))
    return text


def test_what_is_printed_comes_at_once_and_byte_for_byte(carriers, target):
    """No line is waited for, and nothing is taken for text."""
    carrier = carriers()
    fd = worker(carrier)
    carrier.start()

    for chunk in (b"half a li", b"ne\n", b"\xff\x00\x1b[31m", b"\r 10%"):
        os.write(fd, chunk)
        assert chunk == read(target[0], len(chunk))
    os.close(fd)
    carrier.drain()

    assert (b"half a line\n\xff\x00\x1b[31m\r 10%", True) == carrier.end_of(0)


def test_each_rank_has_its_own_end(carriers, target):
    """Whatever the others print."""
    carrier = carriers(0, 2)
    fds = [worker(carrier, 0), worker(carrier, 2)]
    carrier.start()
    for fd, text in zip(fds, (b"zero", b"two"), strict=True):
        os.write(fd, text)
        os.close(fd)
    carrier.drain()

    assert [(b"zero", True), (b"", True), (b"two", True)] == [carrier.end_of(r) for r in range(3)]
    assert sorted(b"zerotwo") == sorted(read(target[0], 7))


def test_both_streams_of_a_worker_keep_their_order(carriers, target):
    """They share its pipe."""
    carrier = carriers(stdout_of=[0])
    out, err = os.dup(carrier.stdout_fd(0)), worker(carrier)
    carrier.start()

    for number in range(100):
        os.write((out, err)[number % 2], b"%02d " % number)
    os.close(out)
    os.close(err)
    carrier.drain()

    assert b"".join(b"%02d " % number for number in range(100)) == read(target[0], 300)


def test_only_the_end_of_much_is_kept(carriers, target):
    """All of it is carried."""
    carrier = carriers()
    fd = worker(carrier)
    carrier.start()
    text = b"".join(b"line %06d\n" % number for number in range(100_000))
    seen = []
    reading = threading.Thread(target=lambda: seen.append(read(target[0], len(text))))
    reading.start()
    with open(fd, "wb", buffering=0) as stream:
        rest = memoryview(text)
        while rest:
            rest = rest[stream.write(rest) :]
    carrier.drain()
    reading.join()

    assert text == seen[0]
    assert (text[-KEPT_BYTES:], False) == carrier.end_of(0)


def test_a_worker_waits_for_a_reader_that_waits(carriers, target):
    """And is carried on when that one reads: nothing is lost, and nothing piles up here."""
    fcntl.fcntl(target[1], fcntl.F_SETPIPE_SZ, 4096)
    carrier = carriers()
    fd = worker(carrier)
    carrier.start()
    os.set_blocking(fd, False)
    written = 0
    while select.select([], [fd], [], 0.5)[1]:
        with contextlib.suppress(BlockingIOError):
            written += os.write(fd, b"x" * 4096)
    os.close(fd)

    assert written < 1 << 21
    assert b"x" * written == read(target[0], written)


def test_a_reader_that_has_gone_is_gone_for_the_worker_too(carriers, target):
    """As it would be if the worker wrote there itself."""
    carrier = carriers()
    fd = worker(carrier)
    carrier.start()
    os.close(target[0])

    waiting = select.poll()
    waiting.register(fd, select.POLLERR)
    os.write(fd, b"nobody reads this")
    assert waiting.poll(PATIENCE_S * 1000)
    with pytest.raises(BrokenPipeError):
        os.write(fd, b"x")
    os.close(fd)

    assert b"nobody reads this" == carrier.end_of(0)[0]


def test_a_target_that_takes_nothing_is_given_up(carriers, target, monkeypatch):
    """The end of a job is not held up for ever."""
    monkeypatch.setattr("elrun.agent.output.carrier._NO_PROGRESS_S", 0.05)
    monkeypatch.setattr("elrun.agent.output.carrier._LAST_LOOK_S", 0.05)
    os.set_blocking(target[1], False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(target[1], b"x")
    os.set_blocking(target[1], True)
    carrier = carriers()
    fd = worker(carrier)
    carrier.start()
    os.write(fd, b"last words")
    os.close(fd)

    carrier.drain()

    assert b"last words" == carrier.end_of(0)[0]
    os.set_blocking(target[0], False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.read(target[0], 1 << 16)


def test_a_target_that_does_not_block_is_waited_for(carriers, target):
    """Another program may have made it so."""
    os.set_blocking(target[1], False)
    carrier = carriers()
    fd = worker(carrier)
    carrier.start()
    text = b"x" * (1 << 18)

    def write():
        with open(fd, "wb") as stream:
            stream.write(text)

    writing = threading.Thread(target=write)
    writing.start()

    assert text == read(target[0], len(text))
    writing.join()


LEFT = "import os, sys; sys.stdin.read(); os.write(2, b'uploaded')"


@pytest.mark.integration
def test_what_is_left_running_can_go_on_to_print(carriers, target):
    """Another process carries for it when the agent has gone."""
    carrier = carriers()
    left = subprocess.Popen(
        [sys.executable, "-c", LEFT], stdin=subprocess.PIPE, stderr=carrier.stderr_fd(0)
    )
    carrier.start()

    carrier.drain(hands_on=True)
    left.communicate()

    assert (0, b"uploaded") == (left.returncode, read(target[0], 8))


@pytest.mark.integration
def test_without_a_thread_another_process_carries(carriers, target, monkeypatch):
    """A system that grants no more threads costs the kept end, and no worker."""

    def refuse(thread):
        raise threads.NoThreadError

    monkeypatch.setattr("elrun.agent.output.carrier.start_thread", refuse)
    carrier = carriers()
    fd = worker(carrier)
    carrier.start()
    os.write(fd, b"still shown")
    os.close(fd)

    assert b"still shown" == read(target[0], 11)
    assert (b"", True) == carrier.end_of(0)


def test_a_terminal_and_a_device_are_left_alone(tmp_path):
    """So is what is closed."""
    ours, theirs = os.openpty()
    reading, writing = os.pipe()
    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    null = os.open(os.devnull, os.O_WRONLY)
    wanted = {"ELRUN_KEEP_STDERR": "1"}
    found = [is_end_kept(fd, wanted) for fd in (theirs, null, writing, file)]
    for fd in (ours, theirs, reading, writing, file, null):
        os.close(fd)

    assert [False, False, True, True] == found
    assert not is_end_kept(writing, wanted)


def test_it_has_to_be_asked_for():
    """By a variable."""
    reading, writing = os.pipe()
    found = [is_end_kept(writing, {"ELRUN_KEEP_STDERR": word}) for word in ("1", "", "0", "off")]
    os.close(reading)
    os.close(writing)

    assert [True, False, False, False] == found


def test_one_file_is_known_by_whatever_leads_there(tmp_path):
    """``> log 2>&1``, and not ``> out 2> err``."""
    reading, writing = os.pipe()
    first = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    second = os.open(tmp_path / "log", os.O_WRONLY)
    other = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT)
    found = [is_one_file(writing, reading), is_one_file(first, second), is_one_file(first, other)]
    for fd in (reading, writing, first, second, other):
        os.close(fd)

    assert [True, True, False] == found
    assert not is_one_file(first, first)
