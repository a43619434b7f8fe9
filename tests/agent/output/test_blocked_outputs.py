"""Consoles and log files that take nothing: full, closed, blocked, or hung."""

import fcntl
import logging
import os
import select
import threading
import time
from collections import Counter

import pytest
from elrun.agent.output.console import MAX_LAG_BYTES
from elrun.agent.output.specs import Std
from pump_kit import HELLO, contents, finish, pump_for, reify, run, start

pytestmark = pytest.mark.integration

MUCH = ("sh", "-c", "yes | head -c 3000000")
MUCH_MORE_WHEN_TOLD = (
    "sh",
    "-c",
    "yes | head -c 3000000; read a; yes | head -c 3000000; read b; echo last",
)
MUCH_THEN_OOPS = ("sh", "-c", "yes | head -c 3000000; echo oops >&2; read line")
SOME_LINES = 50_000
SOME = ("sh", "-c", f"yes | head -n {SOME_LINES}")


class Told(logging.Handler):
    """Knows when something is told."""

    def __init__(self):
        super().__init__()
        self.was = threading.Event()

    def emit(self, record):
        self.was.set()


def warnings_in(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_full_disk_is_one_warning_and_the_job_goes_on(small_disk, console, caplog):
    """The workers don't notice, and the console shows all."""
    dest = reify(small_disk, 2, tee=Std.ALL)
    codes = run(dest, console.fds, MUCH, MUCH)

    assert [0, 0] == codes
    assert 3_000_000 == console.out.count(b"]:y\n")
    assert 1 == len(warnings_in(caplog))
    assert "No space left on device" in warnings_in(caplog)[0]


def test_the_end_of_what_a_full_disk_has_lost_of_standard_error_is_kept(tmp_path, console):
    """It may say why a worker has ended; what a file has taken is read there."""
    dest = reify(tmp_path / "logs", 2, redirects=Std.ALL)
    dest.stderrs[0] = "/dev/full"
    pump = pump_for(dest, console.fds, 2)

    finish(pump, start(pump, HELLO, HELLO))

    assert (b"oops\n", b"") == (pump.lost_end(0), pump.lost_end(1))


def test_a_log_file_that_takes_nothing_is_one_warning_if_shown_and_one_if_not(
    tmp_path, console, caplog
):
    """Redirected or teed; what a full disk is where none can be mounted."""
    dest = reify(tmp_path / "logs", 2, tee={0: Std.OUT}, redirects={1: Std.OUT})
    dest.stdouts = dict.fromkeys(dest.stdouts, "/dev/full")
    codes = run(dest, console.fds, MUCH, MUCH)

    assert ([0, 0], 1_500_000) == (codes, console.out.count(b"[worker0]:y\n"))
    cut = "cannot write '/dev/full': No space left on device; what workers print "
    assert [
        f"{cut}is missing there while this lasts, but the console shows it, and the job goes on",
        f"{cut}there is lost while this lasts, and the job goes on",
    ] == sorted(warnings_in(caplog))


def test_a_log_file_that_cannot_be_opened_is_one_warning(tmp_path, console, caplog):
    """The console gets the lines all the same."""
    dest = reify(tmp_path / "logs", 1, tee=Std.OUT)
    dest.stdouts[0] = str(tmp_path / "missing" / "stdout.log")
    codes = run(dest, console.fds, HELLO)

    assert ([0], b"[worker0]:hello\n") == (codes, console.out)
    assert 1 == len(warnings_in(caplog))


def test_a_console_that_is_a_full_file_is_one_warning(tmp_path, caplog):
    """`elrun … > out` on a full disk: the log files go on."""
    dest = reify(tmp_path / "logs", 1, tee=Std.OUT)
    full = os.open("/dev/full", os.O_WRONLY)
    codes = run(dest, (full, full), MUCH)
    os.close(full)

    assert ([0], 3_000_000) == (codes, len(contents(dest.stdouts[0])))
    assert ["cannot write standard output"] == [text[:28] for text in warnings_in(caplog)]


def test_a_console_that_nobody_reads_any_more_stops_nothing(tmp_path, pipe, caplog):
    """`elrun … | head`: silence, whole log files, and the workers' own exit codes."""
    dest = reify(tmp_path / "logs", 1, tee=Std.OUT)
    os.close(pipe[0])
    codes = run(dest, (pipe[1], pipe[1]), MUCH)

    assert ([0], 3_000_000) == (codes, len(contents(dest.stdouts[0])))
    assert [] == warnings_in(caplog)


def fill(pipe):
    """Make a pipe take nothing more until somebody reads it."""
    fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, 4096)
    os.write(pipe[1], b"." * 4096)


def output_threads():
    names = ("elrun-output", "elrun-console", "elrun-watch")
    return [each for each in threading.enumerate() if each.name in names]


def test_a_console_that_blocks_holds_up_no_worker_that_has_a_log_file(tmp_path, pipe):
    """Its file takes all, at once; the console catches up, and loses nothing while it can."""
    fill(pipe)
    dest = reify(tmp_path / "logs", 2, tee=Std.OUT)
    pump = pump_for(dest, (pipe[1], pipe[1]), nprocs=2, stuck_s=3600)
    workers = start(pump, MUCH, MUCH)
    assert [0, 0] == [worker.wait() for worker in workers]
    drained = threading.Thread(target=pump.drain)
    drained.start()
    with open(pipe[0], "rb", closefd=False) as reader:
        seen = reader.read(4096 + 3_000_000 * len("[worker0]:y\n"))
    finish(pump, workers)
    drained.join()

    assert [3_000_000] * 2 == [len(contents(path)) for path in dest.stdouts.values()]
    assert {b"[worker0]:y": 1_500_000, b"[worker1]:y": 1_500_000} == Counter(seen[4096:].split())


def test_a_console_that_is_stuck_is_told_what_it_missed_when_it_goes_on(tmp_path, pipe):
    """It may lag behind by a megabyte of each stream; what came later is left out, and counted."""
    fill(pipe)
    dest = reify(tmp_path / "logs", 1, tee=Std.OUT)
    pump = pump_for(dest, (pipe[1], pipe[1]), stuck_s=0.5)
    (worker,) = start(pump, MUCH_MORE_WHEN_TOLD)
    while not pump._consoles[0]._is_stuck():
        select.select([], [], [], 0.01)
    worker.stdin.write(b"go on\n")
    worker.stdin.flush()
    while os.stat(dest.stdouts[0]).st_size < 6_000_000:
        select.select([], [], [], 0.01)
    seen = bytearray()
    fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, 1 << 20)
    while b"left out here" not in seen[-(1 << 21) :]:
        seen += os.read(pipe[0], 1 << 20)
    worker.stdin.write(b"go on\n")
    worker.stdin.flush()
    while not seen.endswith(b"[worker0]:last\n"):
        seen += os.read(pipe[0], 1 << 20)
    finish(pump, [worker])

    shown = seen[4096:].count(b"]:y\n") * len("y\n")
    notice = next(line for line in seen.decode().splitlines() if line.startswith("elrun: "))
    assert notice == (
        f"elrun: {6_000_000 - shown} bytes of the standard output of local rank 0 are left out "
        f"here: {dest.stdouts[0]!r} has them"
    )
    assert shown <= 4 * MAX_LAG_BYTES


def test_a_console_that_blocks_holds_up_what_has_no_log_file(tmp_path, pipe):
    """Nothing else has it; a worker beside it that has one runs on."""
    fill(pipe)
    dest = reify(tmp_path / "logs", 2, tee={0: Std.OUT})
    pump = pump_for(dest, (pipe[1], pipe[1]), nprocs=2, out_words=["apple"])
    filed, unfiled = start(pump, MUCH, MUCH)
    assert 0 == filed.wait()
    assert unfiled.poll() is None
    with open(pipe[0], "rb", closefd=False) as reader:
        reader.read(4096 + 1_500_000 * len("[worker0]:y\ny\n"))

    assert [0, 0] == finish(pump, [filed, unfiled])


def test_two_consoles_block_on_their_own(tmp_path, pipe, console):
    """Standard error is shown while nobody reads standard output."""
    fill(pipe)
    dest = reify(tmp_path / "logs", 1, tee=Std.ALL)
    pump = pump_for(dest, (pipe[1], console.fds[1]), stuck_s=3600)
    (worker,) = start(pump, MUCH_THEN_OOPS)
    while b"oops" not in console.err:
        select.select([], [], [], 0.01)
    worker.kill()
    os.close(pipe[0])
    finish(pump, [worker])

    assert b"[worker0]:oops\n" == console.err


def test_a_console_that_blocks_is_waited_for_at_the_end_until_it_is_given_up(
    tmp_path, pipe, caplog
):
    """Nobody reads it, and it is full: only who is told to stop ends, and says what is missing."""
    fill(pipe)
    dest = reify(tmp_path / "logs", 1, tee=Std.OUT)
    pump = pump_for(dest, (pipe[1], pipe[1]), stuck_s=0.1)
    (worker,) = start(pump, SOME)
    worker.communicate()
    pump.drain()
    assert (False, False) == (pump.join(0.3), pump.has_shown_all)
    pump.give_up()

    assert (True, False) == (pump.join(30), pump.has_shown_all)
    assert [
        (
            f"the console takes no output: not shown are {2 * SOME_LINES} bytes of the standard "
            f"output of local rank 0 ({dest.stdouts[0]!r} has them)"
        )
    ] == warnings_in(caplog)
    os.close(pipe[0])
    for thread in output_threads():  # they end once they can
        thread.join()


def test_a_reader_that_pauses_at_the_end_gets_all(tmp_path, pipe):
    """However long: here for longer than a console may take nothing before it counts as stuck."""
    fill(pipe)
    dest = reify(tmp_path / "logs", 1, tee=Std.OUT)
    pump = pump_for(dest, (pipe[1], pipe[1]), stuck_s=0.05)
    (worker,) = start(pump, SOME)
    worker.communicate()
    pump.drain()
    assert not pump.join(0.2)
    with open(pipe[0], "rb", closefd=False) as reader:
        seen = reader.read(4096 + SOME_LINES * len("[worker0]:y\n"))

    assert (True, True) == (pump.join(30), pump.has_shown_all)
    assert [b"[worker0]:y"] * SOME_LINES == seen[4096:].split()


def test_what_was_read_before_a_file_system_hung_is_shown(tmp_path, console):
    """Both pipes are full when the reader begins: it reads the first, and hangs at the second.

    Long before the file is named as one that hangs.
    """
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    held = os.open(fifo, os.O_RDWR)
    shown, shows = os.pipe()
    dest = reify(tmp_path / "logs", 2, tee={0: Std.OUT}, redirects={1: Std.OUT})
    dest.stdouts[1] = fifo
    pump = pump_for(dest, (shows, console.fds[1]), 2, stuck_s=3600)
    os.write(pump.stdout_fd(0), b"first\n")
    os.write(pump.stdout_fd(1), b"y\n" * 100_000)

    pump.start()
    line = os.read(shown, 6 + len("[worker0]:"))

    reading = threading.Thread(target=_read_much, args=(held, 200_000))
    reading.start()
    finish(pump, ())
    reading.join()
    for fd in (held, shown, shows):
        os.close(fd)
    assert b"[worker0]:first\n" == line


def test_what_was_read_before_a_file_system_hung_once_more_is_shown(tmp_path, console, caplog):
    """What is in both pipes while the file hangs is read together; it is named once."""
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    held = os.open(fifo, os.O_RDWR)
    shown, shows = os.pipe()
    dest = reify(tmp_path / "logs", 2, tee={0: Std.OUT}, redirects={1: Std.OUT})
    dest.stdouts[1] = fifo
    pump = pump_for(dest, (shows, console.fds[1]), 2, stuck_s=0.05)
    workers = [os.dup(pump.stdout_fd(rank)) for rank in range(2)]

    lines = []
    for word in (b"first\n", b"other\n"):
        os.write(workers[0], word)
        os.write(workers[1], b"y\n" * 100_000)
        if lines:
            _read_much(held, 200_000)
        else:
            pump.start()
        lines.append(os.read(shown, 6 + len("[worker0]:")))

    reading = threading.Thread(target=_read_much, args=(held, 200_000))
    reading.start()
    for fd in workers:
        os.close(fd)
    finish(pump, ())
    reading.join()
    for fd in (held, shown, shows):
        os.close(fd)
    assert [b"[worker0]:first\n", b"[worker0]:other\n"] == lines
    assert 1 == len([each for each in warnings_in(caplog) if each.startswith("cannot write")])


def test_the_end_of_a_line_is_shown_before_another_process_takes_over_a_pipe(tmp_path, console):
    """What it is to print into takes long to be opened: here a pipe that nobody reads yet."""
    shown, shows = os.pipe()
    dest = reify(tmp_path / "logs", 2, tee={0: Std.OUT}, redirects={1: Std.OUT})
    pump = pump_for(dest, (shows, console.fds[1]), 2)
    held = os.dup(pump.stdout_fd(1))
    os.write(pump.stdout_fd(0), b"no end")
    at_its_end = os.dup(pump.stdout_fd(0))
    pump.start()
    os.write(held, b"said\n")
    _await_content(dest.stdouts[1], b"said\n")
    os.unlink(dest.stdouts[1])
    os.mkfifo(dest.stdouts[1])

    draining = threading.Thread(target=pump.drain)
    draining.start()
    line = os.read(shown, 100)

    with open(dest.stdouts[1], "rb"):
        draining.join()
        pump.join()
    for fd in (held, at_its_end, shown, shows):
        os.close(fd)
    assert b"[worker0]:no end\n" == line


def _await_content(path, expected):
    while not os.path.exists(path) or contents(path) != expected:
        time.sleep(0.01)


def _read_much(fd, size):
    while size:
        size -= len(os.read(fd, size))


def test_a_file_system_that_hangs_is_named_while_it_does(tmp_path, console, caplog):
    """A log file that takes nothing: here a pipe that nobody reads, and that is full."""
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDWR)
    dest = reify(tmp_path / "logs", 1, redirects=Std.OUT)
    dest.stdouts[0] = fifo
    told = Told()
    logging.getLogger("elrun.agent.output.pump").addHandler(told)
    try:
        pump = pump_for(dest, console.fds, stuck_s=0.05)
        (worker,) = start(pump, MUCH)
        told.was.wait()
        worker.kill()
        pump.drain()
        pump.join()
    finally:
        logging.getLogger("elrun.agent.output.pump").removeHandler(told)
    os.close(reader)

    assert [
        f"cannot write {fifo!r}: its file system does not answer; workers that print wait for it",
        f"{fifo!r} takes no output: what workers printed last is lost",
    ] == warnings_in(caplog)
    with open(fifo, "rb") as pipe:
        while pipe.read(1 << 20):
            pass
    worker.communicate()
    for thread in output_threads():  # they end once they can
        thread.join()
