"""What workers print on a standard error that is no terminal: carried as it is, its end kept."""

import contextlib
import fcntl
import os
import select
import socket
import subprocess
import sys
import threading

import pytest
from elrun.agent.output.carrier import Carrier
from elrun.agent.output.carrying import KEPT_BYTES, LONGEST_LINE_BYTES, KeptOutput, Lines
from elrun.agent.output.outlets import can_be_carried, is_one_file
from elrun.agent.output.specs import keeps_stderr
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

    def make(*ranks, to=target[1], **settings):
        made.append(Carrier(ranks or (0,), target=to, **settings))
        return made[-1]

    yield make
    for each in made:
        each.drain()
        each.give_up()
        assert each.join(PATIENCE_S)


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


def fds_and_threads():
    return set(os.listdir("/proc/self/fd")), set(threading.enumerate())


def more_than(before):
    """Return which descriptors and threads have come; those of another test may still go."""
    return tuple(now - then for now, then in zip(fds_and_threads(), before, strict=True))


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


def write_all(fd, texts):
    """Write each text by one call."""
    for text in texts:
        assert len(text) == os.write(fd, text)
    os.close(fd)


@pytest.mark.parametrize("place", ["a pipe", "a file"])
@pytest.mark.parametrize("length", [100, 5_000, 100_000])
def test_long_lines_of_several_ranks_do_not_mix(carriers, target, tmp_path, place, length):
    """Though they come through pipes that hold less, and at the same time."""
    path = tmp_path / "log"
    to = os.open(path, os.O_WRONLY | os.O_CREAT) if place == "a file" else target[1]
    carrier = carriers(0, 1, 2, to=to)
    lines = {rank: b"%d" % rank * length + b"\n" for rank in range(3)}
    count = 600_000 // length
    writing = [
        threading.Thread(target=write_all, args=(worker(carrier, rank), [line] * count))
        for rank, line in lines.items()
    ]
    carrier.carry()
    for each in writing:
        each.start()
    seen = b"" if place == "a file" else read(target[0], 3 * count * (length + 1))
    for each in writing:
        each.join()
    carrier.drain()
    carrier.join()
    seen = seen or path.read_bytes()

    expected = sorted(line for line in lines.values() for _ in range(count))
    assert expected == sorted(seen.splitlines(keepends=True))


@pytest.fixture(name="lines")
def _lines():
    """What is written of two workers' output."""
    return Lines()


@pytest.fixture(name="outputs")
def _outputs(lines):
    return KeptOutput(lines, 1 << 16), KeptOutput(lines, 1 << 16)


def written(lines):
    return b"".join(lines.queue)


def test_a_line_written_in_steps_is_not_interrupted(outputs, lines):
    """As ``python -u`` writes each argument of ``print``; the others follow at its end."""
    first, second = outputs
    first.take(b"first", 1.0)
    second.take(b"second", 1.001)
    second.take(b" line\n", 1.002)
    assert b"first" == written(lines)

    first.take(b" line\n", 1.003)

    assert b"first line\nsecond line\n" == written(lines)
    assert (None, None) == (first.due_at, second.due_at)


def test_a_line_that_pauses_is_interrupted_in_the_end(outputs, lines):
    """A prompt may stand for hours; who goes on to print waits no longer for that."""
    first, second = outputs
    first.take(b"name? ", 1.0)
    second.take(b"second\n", 1.01)
    second.take(b"third\n", 1.02)
    first.take(b".", 1.021)
    assert (b"name? .", pytest.approx(1.025)) == (written(lines), second.due_at)
    second.take(b"fourth\n", 1.026)

    assert b"name? .second\nthird\nfourth\n" == written(lines)


def test_progress_bars_wait_for_nobody(outputs, lines):
    """Nor does anybody wait for one: its end is the beginning of its next state."""
    first, second = outputs
    steps = [(first, b"\r  1%"), (second, b"\r  2%"), (second, b"\rdone\n"), (first, b"\r  3%")]
    for number, (output, text) in enumerate([*steps, (second, b"bye\n")]):
        output.take(text, 1 + number / 1000)

    assert b"\r  1%\r  2%\rdone\n\r  3%bye\n" == written(lines)


def test_the_rest_of_a_line_is_waited_for_where_the_pipe_was_full(outputs, lines):
    """Even if another worker's line ends meanwhile."""
    first, second = outputs
    second.take(b"second", 1.0)
    first.take(b"x\n" + b"y" * ((1 << 16) - 2), 1.03)
    second.take(b" line\n", 1.04)
    assert (b"secondx\n line\n", pytest.approx(1.28)) == (written(lines), first.due_at)

    first.take(b"\n", 1.05)

    assert b"secondx\n line\n" + b"y" * ((1 << 16) - 2) + b"\n" == written(lines)


@pytest.mark.parametrize("text", [b"name? ", b"\r 10%", b"...", b"\x1b[1m"])
def test_a_prompt_waits_for_nothing(carriers, target, text):
    """It came from a pipe that was not full: the worker has written no more."""
    carrier = carriers()
    fd = worker(carrier)
    carrier.carry()
    os.write(fd, text)

    assert text == read(target[0], len(text))


def test_a_prompt_after_much_waits_for_a_moment_only(carriers, target):
    """It might be the beginning of a line that found no room in the pipe."""
    carrier = carriers()
    fd = worker(carrier)
    text = b"x" * 99 + b"\n"
    os.write(fd, text * 400 + b"name? ")
    carrier.carry()

    assert text * 400 + b"name? " == read(target[0], 40_006)


def test_no_line_is_too_long(carriers, target):
    """A gigabyte without an end would not be held: it is written in parts."""
    carrier = carriers(0, 1)
    fd, other = worker(carrier, 0), worker(carrier, 1)
    carrier.carry()
    text = b"x" * (4 * LONGEST_LINE_BYTES)
    writing = threading.Thread(target=write_all, args=(fd, [text]))
    writing.start()
    os.write(other, b"y")
    seen = read(target[0], len(text) + 1)
    writing.join()

    assert text == seen.replace(b"y", b"")
    assert (text[-KEPT_BYTES:], False) == carrier.end_of(0)


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


def test_a_terminal_and_a_device_are_left_alone(tmp_path):
    """So is what is closed, and a socket that takes messages."""
    ours, theirs = os.openpty()
    reading, writing = os.pipe()
    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    null = os.open(os.devnull, os.O_WRONLY)
    streams, messages = socket.socketpair(), socket.socketpair(type=socket.SOCK_DGRAM)
    fds = (theirs, null, messages[0].fileno(), streams[0].fileno(), writing, file)
    found = [can_be_carried(fd) for fd in fds]
    for fd in (ours, theirs, reading, writing, file, null):
        os.close(fd)
    for each in (*streams, *messages):
        each.close()

    assert [False, False, False, True, True, True] == found
    assert not can_be_carried(writing)


def test_it_can_be_turned_off():
    """By a variable."""
    words = ("", "1", "what?", "0", "off", "no")
    found = [keeps_stderr({"ELRUN_KEEP_STDERR": word}) for word in words]

    assert [True, True, True, False, False, False] == found


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
