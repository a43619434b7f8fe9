"""What workers print on a standard error that is no terminal: carried as it is, its end kept."""

import contextlib
import fcntl
import os
import select
import subprocess
import sys
import threading

import pytest
from carrier_kit import PATIENCE_S, fds_and_threads, more_than, read, worker
from elrun.agent.output.carrying import KEPT_BYTES
from elrun.agent.output.specs import keeps_stderr
from elrun.rendezvous import threads


def test_what_is_printed_comes_at_once_and_byte_for_byte(carriers, target):
    """No line is waited for, and nothing is taken for text."""
    carrier = carriers()
    fd = worker(carrier)
    carrier.carry()

    for chunk in (b"half a li", b"ne\n", b"\xff\x00\x1b[31m", b"\r 10%"):
        os.write(fd, chunk)
        assert chunk == read(target[0], len(chunk))
    os.close(fd)
    carrier.drain()
    carrier.join()

    assert (b"half a line\n\xff\x00\x1b[31m\r 10%", True) == carrier.end_of(0)


def test_each_rank_has_its_own_end(carriers, target):
    """Whatever the others print."""
    carrier = carriers(0, 2)
    fds = [worker(carrier, 0), worker(carrier, 2)]
    carrier.carry()
    for fd, text in zip(fds, (b"zero", b"two"), strict=True):
        os.write(fd, text)
        os.close(fd)
    carrier.drain()
    carrier.join()

    assert [(b"zero", True), (b"", True), (b"two", True)] == [carrier.end_of(r) for r in range(3)]
    assert sorted(b"zerotwo") == sorted(read(target[0], 7))


def test_both_streams_of_a_worker_keep_their_order(carriers, target):
    """They share its pipe."""
    carrier = carriers(stdout_of=[0])
    out, err = os.dup(carrier.stdout_fd(0)), worker(carrier)
    carrier.carry()

    for number in range(100):
        os.write((out, err)[number % 2], b"%02d " % number)
    os.close(out)
    os.close(err)
    carrier.drain()
    carrier.join()

    assert b"".join(b"%02d " % number for number in range(100)) == read(target[0], 300)


def test_only_the_end_of_much_is_kept(carriers, target):
    """All of it is carried."""
    carrier = carriers()
    fd = worker(carrier)
    carrier.carry()
    text = b"".join(b"line %06d\n" % number for number in range(100_000))
    seen = []
    reading = threading.Thread(target=lambda: seen.append(read(target[0], len(text))))
    reading.start()
    with open(fd, "wb", buffering=0) as stream:
        rest = memoryview(text)
        while rest:
            rest = rest[stream.write(rest) :]
    carrier.drain()
    carrier.join()
    reading.join()

    assert text == seen[0]
    assert (text[-KEPT_BYTES:], False) == carrier.end_of(0)


def test_a_worker_waits_for_a_reader_that_waits(carriers, target):
    """And is carried on when that one reads: nothing is lost, and nothing piles up here."""
    fcntl.fcntl(target[1], fcntl.F_SETPIPE_SZ, 4096)
    carrier = carriers()
    fd = worker(carrier)
    carrier.carry()
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
    carrier.carry()
    os.close(target[0])

    waiting = select.poll()
    waiting.register(fd, select.POLLERR)
    os.write(fd, b"nobody reads this")
    assert waiting.poll(PATIENCE_S * 1000)
    with pytest.raises(BrokenPipeError):
        os.write(fd, b"x")
    os.close(fd)

    assert b"nobody reads this" == carrier.end_of(0)[0]


@pytest.fixture(name="full")
def _full(target):
    """The target, which takes nothing more until somebody reads."""
    os.set_blocking(target[1], False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(target[1], b"." * 4096)
    os.set_blocking(target[1], True)
    return target


def rest_of(reader):
    """Return what is in a pipe."""
    text = b""
    while select.select([reader], [], [], 0)[0]:
        text += os.read(reader, 1 << 16)
    return text


def test_a_reader_that_pauses_at_the_end_gets_all(carriers, full):
    """The worker has ended, and can wait no longer: so its carrier waits."""
    carrier = carriers()
    fd = worker(carrier)
    text = b"x" * 60_000 + b"last words\n"
    os.write(fd, text[:50_000])
    carrier.carry_if_printed()
    os.write(fd, text[50_000:])
    os.close(fd)
    carrier.drain()
    assert not carrier.join(0.2)

    assert text == read(full[0], len(text) + (1 << 16)).lstrip(b".")
    assert carrier.join(PATIENCE_S)


def test_a_target_that_takes_nothing_is_given_up(carriers, full):
    """When elrun is told to stop: nothing is left open, and no thread."""
    before = fds_and_threads()
    carrier = carriers()
    fd = worker(carrier)
    carrier.carry()
    os.write(fd, b"last words")
    os.close(fd)
    carrier.drain()
    assert not carrier.join(0.1)

    carrier.give_up()

    assert carrier.join(PATIENCE_S)
    assert b"last words" == carrier.end_of(0)[0]
    carrier._carrying._thread.join()
    assert (set(), set()) == more_than(before)
    assert b"" == rest_of(full[0]).strip(b".")


def test_last_words_are_known_though_the_target_takes_nothing(carriers, full):
    """What a dead worker left in its pipe is read by whoever asks for it."""
    carrier = carriers(0, 1)
    fds = worker(carrier, 0), worker(carrier, 1)
    carrier.carry()
    os.write(fds[0], b"stuck")
    while not carrier._carrying.lines.queue:
        select.select([], [], [], 0.001)
    os.write(fds[1], b"last words")

    assert (b"last words", True) == carrier.end_of(1)


def test_what_nobody_has_carried_yet_is_known_too(carriers, target):
    """A worker may print and die at once."""
    carrier = carriers()
    os.write(carrier.stderr_fd(0), b"last words")

    assert (b"last words", True) == carrier.end_of(0)
    assert b"last words" == read(target[0], 10)


def test_silent_workers_cost_no_thread(carriers):
    """And nothing is left open when they have ended."""
    before = fds_and_threads()
    carrier = carriers(0, 1)
    fds = [worker(carrier, 0), worker(carrier, 1)]
    carrier.carry_if_printed()
    for fd in fds:
        os.close(fd)
    assert not select.select([carrier.silent_fd], [], [], 0)[0]
    carrier.drain()

    assert (True, (b"", True)) == (carrier.join(0), carrier.end_of(1))
    assert (set(), set()) == more_than(before)


def test_an_attempt_writes_after_the_one_before(carriers, target):
    """A restart does not wait for a reader that pauses, and mixes nothing."""
    over = threading.Event()
    ended = threading.Event()
    carrier = carriers(begin=over.wait, on_end=ended.set)
    os.write(carrier.stderr_fd(0), b"second")
    carrier.drain()
    assert not select.select([target[0]], [], [], 0.1)[0]

    over.set()

    assert b"second" == read(target[0], 6)
    assert ended.wait(PATIENCE_S)
    assert carrier.join(0)


def test_a_target_that_does_not_block_is_waited_for(carriers, target):
    """Another program may have made it so."""
    os.set_blocking(target[1], False)
    carrier = carriers()
    fd = worker(carrier)
    carrier.carry()
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
    """Another process carries for it, after what was printed before."""
    carrier = carriers()
    left = subprocess.Popen(
        [sys.executable, "-c", LEFT], stdin=subprocess.PIPE, stderr=carrier.stderr_fd(0)
    )
    os.write(carrier.stderr_fd(0), b"before ")

    carrier.drain()
    carrier.join()
    left.communicate()

    assert (0, b"before uploaded") == (left.returncode, read(target[0], 15))


@pytest.mark.integration
def test_without_a_thread_another_process_carries(carriers, target, monkeypatch):
    """A system that grants no more threads costs the kept end, and no worker."""

    def refuse(thread):
        raise threads.NoThreadError

    monkeypatch.setattr("elrun.agent.output.carrying.start_thread", refuse)
    carrier = carriers()
    fd = worker(carrier)
    os.write(fd, b"still shown")
    carrier.carry_if_printed()
    os.close(fd)

    assert b"still shown" == read(target[0], 11)
    assert (b"", True) == carrier.end_of(0)


@pytest.mark.parametrize(
    ("stdout_of", "streams"), [([], "standard error"), ([0], "standard output and standard error")]
)
def test_where_nothing_can_carry_the_warning_names_each_stream_that_is_lost(
    carriers, monkeypatch, caplog, stdout_of, streams
):
    """``ulimit -u`` counts threads and processes. The worker that prints lives on."""

    def refuse(*_):
        raise threads.NoThreadError

    monkeypatch.setattr("elrun.agent.output.carrying.start_thread", refuse)
    monkeypatch.setattr("elrun.agent.output.hand_over._start", refuse)
    carrier = carriers(stdout_of=stdout_of)
    os.write(carrier.stderr_fd(0), b"lost")
    carrier.carry_if_printed()

    assert [f"what workers print on {streams} is lost: {threads.NoThreadError()}"] == [
        record.getMessage() for record in caplog.records
    ]


def test_it_can_be_turned_off():
    """By a variable."""
    words = ("", "1", "what?", "0", "off", "no")
    found = [keeps_stderr({"ELRUN_KEEP_STDERR": word}) for word in words]

    assert [True, True, True, False, False, False] == found
