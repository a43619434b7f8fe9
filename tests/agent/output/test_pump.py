"""Carrying the output of real workers through real pipes."""

import contextlib
import fcntl
import hashlib
import logging
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter

import pytest
from elrun.agent.output.console import MAX_LAG_BYTES
from elrun.agent.output.pump import OutputPump
from elrun.agent.output.specs import DefaultLogsSpecs, LogsDest, Std
from elrun.rendezvous.threads import NoThreadError

pytestmark = pytest.mark.integration

HELLO = ("sh", "-c", "echo hello; echo oops >&2")
UNFINISHED = ("printf", "no newline")
KILLED = ("sh", "-c", "printf 'last words'; kill -KILL $$")
NO_UTF8 = ("printf", r"\377\000\n")
NOTHING = ("true",)
FRUIT = ("printf", r"an apple\nnothing\nan orange\n")
FRUIT_THEN_UNFINISHED = ("printf", r"nothing\nan apple")
SAY_THEN_WAIT = ("sh", "-c", "echo said; read line")
PROGRESS_THEN_WAIT = ("sh", "-c", r"printf '\r 1%%\r 2%%'; read line")
MUCH = ("sh", "-c", "yes | head -c 3000000")
MUCH_MORE_WHEN_TOLD = (
    "sh",
    "-c",
    "yes | head -c 3000000; read a; yes | head -c 3000000; read b; echo last",
)
MUCH_THEN_OOPS = ("sh", "-c", "yes | head -c 3000000; echo oops >&2; read line")
PROMPT = ("sh", "-c", "printf 'name? '; read name; echo $name it is")
PROMPT_THEN_OOPS = ("sh", "-c", "printf 'name? '; read name; echo oops >&2")
LONG_PROMPT = (
    "sh",
    "-c",
    "head -c 200000 /dev/zero | tr '\\0' x; printf '? '; read line; echo $line",
)
SAY_WHEN_TOLD = ("sh", "-c", "read line; echo $line")
SOME_LINES = 50_000
SOME = ("sh", "-c", f"yes | head -n {SOME_LINES}")
LONG_BYTES = 100_000_000
LONG_LINE = ("sh", "-c", f"head -c {LONG_BYTES} /dev/zero | tr '\\0' x; echo; echo next")
LONG_UNFINISHED = ("sh", "-c", "head -c 200000 /dev/zero | tr '\\0' x; printf apple")
LINE = "abcdefghij" * 9
TORN_PROGRAM = f"""import os
text = b"{LINE}\\n" * 300
for i in range(0, len(text), 7): os.write(1, text[i:i + 7])"""
TORN = (sys.executable, "-c", TORN_PROGRAM)


class Told(logging.Handler):
    """Knows when something is told."""

    def __init__(self):
        super().__init__()
        self.was = threading.Event()

    def emit(self, record):
        self.was.set()


class Console:
    """Two files in place of a terminal."""

    def __init__(self, directory):
        self.paths = [directory / "console.out", directory / "console.err"]
        self.fds = tuple(os.open(path, os.O_WRONLY | os.O_CREAT) for path in self.paths)

    @property
    def out(self):
        return self.paths[0].read_bytes()

    @property
    def err(self):
        return self.paths[1].read_bytes()


@pytest.fixture(name="console")
def _console(tmp_path):
    console = Console(tmp_path)
    yield console
    for fd in console.fds:
        os.close(fd)


@pytest.fixture(name="pipe")
def _pipe():
    """A console that a test reads while it is written."""
    read_end, write_end = os.pipe()
    yield read_end, write_end
    os.close(write_end)
    with contextlib.suppress(OSError):  # a test may have closed it
        os.close(read_end)


def reify(log_dir, nprocs, **wishes):
    return DefaultLogsSpecs(str(log_dir), **wishes).reify({rank: {} for rank in range(nprocs)})


def pump_for(
    dest, console_fds, nprocs=1, *, out_words=None, err_words=None, prefixes=None, **options
):
    # Pauses of a busy machine are none of the worker's.
    options = {"pause_s": 3600, **options, "console_fds": console_fds}
    return OutputPump(dest, nprocs, prefixes, "worker", out_words, err_words, **options)


def start(pump, *commands):
    workers = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=pump.stdout_fd(rank),
            stderr=pump.stderr_fd(rank),
        )
        for rank, command in enumerate(commands)
    ]
    pump.start()
    return workers


def finish(pump, workers):
    for worker in workers:
        worker.communicate()
    pump.drain()
    pump.join()
    return [worker.returncode for worker in workers]


def run(dest, console_fds, *commands, **wishes):
    pump = pump_for(dest, console_fds, len(commands), **wishes)
    return finish(pump, start(pump, *commands))


def contents(path):
    with open(path, "rb") as file:
        return file.read()


def warnings_in(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def open_fds():
    return set(os.listdir("/proc/self/fd"))


def test_a_teed_stream_goes_to_its_file_and_to_the_console(tmp_path, console):
    """To the console with the role's name and the local rank before each line."""
    dest = reify(tmp_path / "logs", 2, tee=Std.ALL)
    run(dest, console.fds, HELLO, NOTHING)

    assert (b"hello\n", b"oops\n") == (contents(dest.stdouts[0]), contents(dest.stderrs[0]))
    assert (b"[worker0]:hello\n", b"[worker0]:oops\n") == (console.out, console.err)


def test_a_redirected_stream_goes_to_its_file_alone(tmp_path, console):
    """The console stays silent."""
    dest = reify(tmp_path / "logs", 1, redirects=Std.ALL)
    run(dest, console.fds, HELLO)

    assert (b"hello\n", b"oops\n") == (contents(dest.stdouts[0]), contents(dest.stderrs[0]))
    assert (b"", b"") == (console.out, console.err)


def test_a_stream_that_nobody_asked_for_is_inherited(tmp_path, console):
    """It costs nothing: no pipe, no thread."""
    before = open_fds(), threading.active_count()
    pump = pump_for(reify(tmp_path / "logs", 1), console.fds)
    pump.start()

    assert (None, None) == (pump.stdout_fd(0), pump.stderr_fd(0))
    fds, threads = before
    assert open_fds() <= fds
    assert threading.active_count() <= threads
    pump.drain()
    pump.join()


@contextlib.contextmanager
def no_descriptors():
    """Let this process open nothing more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@contextlib.contextmanager
def no_threads():
    """Let this process start no more threads: there is no memory for such stacks."""
    before = threading.stack_size(1 << 46)
    try:
        yield
    finally:
        threading.stack_size(before)


@pytest.mark.parametrize(
    ("shortage", "wanted"), [(no_descriptors, "Too many open files"), (no_threads, "threads")]
)
def test_a_start_that_fails_leaves_nothing_open(tmp_path, console, shortage, wanted):
    """Neither pipes nor threads, whatever the system has no more of."""
    before = open_fds(), threading.active_count()
    pump = pump_for(reify(tmp_path / "logs", 2, tee=Std.ALL), console.fds, nprocs=2)

    with shortage(), pytest.raises(OSError, match=wanted):
        pump.start()
    pump.drain()
    pump.join()

    assert before == (open_fds(), threading.active_count())


def test_a_drain_that_can_not_start_closes_everything(tmp_path, console):
    """A start of workers has failed, for the same reason maybe, and its error is what counts."""
    before = open_fds(), threading.active_count()
    pump = pump_for(reify(tmp_path / "logs", 2, tee=Std.ALL), console.fds, nprocs=2)

    with no_threads():
        pump.drain()
        pump.join()

    assert before == (open_fds(), threading.active_count())


@pytest.mark.parametrize("started", [0, 1])
def test_a_start_without_the_last_threads_leaves_none_running(tmp_path, console, started):
    """Those that were started before are told to end."""
    fds, threads = open_fds(), threading.enumerate()
    pump = pump_for(reify(tmp_path / "logs", 2, tee=Std.ALL), console.fds, nprocs=2)
    last = pump._consoles[started]
    start = last.start

    with contextlib.ExitStack() as scarce:
        last.start = lambda: (start(), scarce.enter_context(no_threads()))
        with pytest.raises(NoThreadError):
            pump.start()

    told = [thread for thread in threading.enumerate() if thread not in threads]
    for thread in told:
        thread.join(10)
    assert (fds, []) == (open_fds(), [thread for thread in told if thread.is_alive()])


def test_one_stream_may_be_teed_and_the_other_inherited(tmp_path, console):
    """Each stream of each worker has its own way."""
    pump = pump_for(reify(tmp_path / "logs", 2, tee={1: Std.ERR}), console.fds, nprocs=2)
    has_pipe = [
        fd is not None for rank in (0, 1) for fd in (pump.stdout_fd(rank), pump.stderr_fd(rank))
    ]
    pump.drain()
    pump.join()

    assert [False, False, False, True] == has_pipe


def test_a_worker_that_the_console_hides_is_heard_nowhere(tmp_path, console):
    """Unless it has a file: without one, what it prints is dropped."""
    dest = reify(tmp_path / "logs", 2, tee={0: Std.ALL}, local_ranks_filter={1})
    dest.stdouts[1] = dest.stderrs[1] = os.devnull
    run(dest, console.fds, HELLO, HELLO)

    assert b"hello\n" == contents(dest.stdouts[0])
    assert (b"", b"") == (console.out, console.err)


def test_a_prefix_may_be_given(tmp_path, console):
    """By local rank; a worker without one keeps the default."""
    dest = reify(tmp_path / "logs", 2, tee=Std.OUT)
    run(dest, console.fds, HELLO, UNFINISHED, prefixes={1: "é|"})

    assert {b"[worker0]:hello", "é|no newline".encode()} == set(console.out.splitlines())


def test_a_line_without_a_newline_arrives(tmp_path, console):
    """The file has the worker's bytes exactly; the console gets the newline that it needs."""
    dest = reify(tmp_path / "logs", 1, tee=Std.OUT)
    run(dest, console.fds, UNFINISHED)

    assert b"no newline" == contents(dest.stdouts[0])
    assert b"[worker0]:no newline\n" == console.out


def test_the_last_line_before_sigkill_arrives(tmp_path, console):
    """It is in the pipe, and the pipe outlives the worker."""
    dest = reify(tmp_path / "logs", 1, tee=Std.OUT)
    codes = run(dest, console.fds, KILLED)

    assert ([-signal.SIGKILL], b"last words") == (codes, contents(dest.stdouts[0]))
    assert b"[worker0]:last words\n" == console.out


def test_bytes_that_are_no_utf8_pass(tmp_path, console):
    """Output is bytes; nobody decodes it."""
    dest = reify(tmp_path / "logs", 1, tee=Std.OUT)
    run(dest, console.fds, NO_UTF8)

    assert (b"\xff\0\n", b"[worker0]:\xff\0\n") == (contents(dest.stdouts[0]), console.out)


def test_lines_of_two_workers_do_not_mix(tmp_path, console):
    """Even when each is written in many small parts."""
    dest = reify(tmp_path / "logs", 2, tee=Std.OUT)
    run(dest, console.fds, TORN, TORN)

    expected = [f"[worker{rank}]:{LINE}".encode() for rank in (0, 1) for _ in range(300)]
    assert expected == sorted(console.out.splitlines())


def test_a_line_is_shown_at_once(tmp_path, pipe):
    """While its worker still runs."""
    pump = pump_for(reify(tmp_path / "logs", 1, tee=Std.OUT), (pipe[1], pipe[1]))
    workers = start(pump, SAY_THEN_WAIT)
    seen = os.read(pipe[0], 100)
    finish(pump, workers)

    assert b"[worker0]:said\n" == seen


def test_a_progress_bar_is_shown_while_it_grows(tmp_path, pipe):
    """Each state becomes a line once the next has begun."""
    pump = pump_for(reify(tmp_path / "logs", 1, tee=Std.OUT), (pipe[1], pipe[1]))
    workers = start(pump, PROGRESS_THEN_WAIT)
    seen = os.read(pipe[0], 100)
    finish(pump, workers)

    assert b"[worker0]:\r\n[worker0]: 1%\r\n" == seen
    assert b"[worker0]: 2%\n" == os.read(pipe[0], 100)


def test_a_line_of_100_megabytes_is_whole_and_costs_little_memory(tmp_path, pipe):
    """The console gets it from the log file, without anything between."""
    dest = reify(tmp_path / "logs", 2, tee=Std.OUT)
    pump = pump_for(dest, (pipe[1], pipe[1]), nprocs=2)
    seen = hashlib.sha256()

    def read_console():
        while chunk := os.read(pipe[0], 1 << 20):
            seen.update(chunk)
            if chunk.endswith(b"next\n"):
                return

    reader = threading.Thread(target=read_console)
    reader.start()
    tracemalloc.start()
    try:
        finish(pump, start(pump, LONG_LINE, NOTHING))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    reader.join()

    expected = b"[worker0]:" + b"x" * LONG_BYTES + b"\n[worker0]:next\n"
    assert hashlib.sha256(expected).hexdigest() == seen.hexdigest()
    assert peak < 8 << 20


def test_a_long_line_without_a_newline_arrives(tmp_path, console):
    """With the newline that the console needs."""
    dest = reify(tmp_path / "logs", 1, tee=Std.OUT)
    run(dest, console.fds, LONG_UNFINISHED)

    assert b"[worker0]:" + b"x" * 200_000 + b"apple\n" == console.out


def test_a_long_line_that_no_file_keeps_is_broken(tmp_path, console):
    """Memory has a bound, and so has what a line can be then; nothing of it is lost."""
    run(reify(tmp_path / "logs", 1), console.fds, LONG_UNFINISHED, out_words=["pear"])

    lines = console.out.splitlines()
    assert b"x" * 200_000 + b"apple" == b"".join(lines)
    assert max(map(len, lines)) == 64 * 1024


def test_lines_with_a_word_are_kept_aside(tmp_path, console):
    """Of every stream that is carried, with a prefix; the streams go their own ways besides."""
    dest = reify(tmp_path / "logs", 2, tee={0: Std.OUT}, redirects={1: Std.OUT})
    run(dest, console.fds, FRUIT, FRUIT_THEN_UNFINISHED, out_words=["apple", "orange"])

    kept = sorted(contents(dest.filtered_stdout).splitlines())
    assert [b"[worker0]:an apple", b"[worker0]:an orange", b"[worker1]:an apple"] == kept
    assert b"[worker0]:an apple\n[worker0]:nothing\n[worker0]:an orange\n" == console.out


def test_each_stream_has_words_of_its_own(tmp_path, console):
    """Those of standard error aren't looked for in standard output."""
    dest = reify(tmp_path / "logs", 1)
    run(dest, console.fds, HELLO, err_words=["hello", "oops"])

    assert b"[worker0]:oops\n" == contents(dest.filtered_stderr)
    assert not os.path.exists(dest.filtered_stdout)


def test_words_alone_leave_the_console_as_it_is(tmp_path, console):
    """All workers' lines are shown, whole and without a prefix."""
    dest = reify(tmp_path / "logs", 2)
    run(dest, console.fds, FRUIT, UNFINISHED, out_words=["apple"])

    assert {b"an apple", b"nothing", b"an orange", b"no newline"} == set(console.out.splitlines())
    assert b"[worker0]:an apple\n" == contents(dest.filtered_stdout)


def test_words_are_looked_for_in_workers_that_the_console_hides(tmp_path, console):
    """`--local-ranks-filter` is about the console."""
    dest = reify(tmp_path / "logs", 2, local_ranks_filter={0})
    run(dest, console.fds, NOTHING, FRUIT, out_words=["apple"])

    assert (b"", b"[worker1]:an apple\n") == (console.out, contents(dest.filtered_stdout))


def test_words_are_found_in_a_long_line(tmp_path, console):
    """At its very end, too; the whole line is kept aside."""
    dest = reify(tmp_path / "logs", 1, redirects=Std.OUT)
    run(dest, console.fds, LONG_UNFINISHED, out_words=["apple"])

    assert b"[worker0]:" + b"x" * 200_000 + b"apple\n" == contents(dest.filtered_stdout)


def test_a_long_line_without_the_word_is_not_kept_aside(tmp_path, console):
    """Long or short, the same rule."""
    dest = reify(tmp_path / "logs", 1, redirects=Std.OUT)
    run(dest, console.fds, LONG_UNFINISHED, out_words=["pear"])

    assert b"" == contents(dest.filtered_stdout)


def test_a_full_disk_is_one_warning_and_the_job_goes_on(small_disk, console, caplog):
    """The workers don't notice, and the console shows all."""
    dest = reify(small_disk, 2, tee=Std.ALL)
    codes = run(dest, console.fds, MUCH, MUCH)

    assert [0, 0] == codes
    assert 3_000_000 == console.out.count(b"]:y\n")
    assert 1 == len(warnings_in(caplog))
    assert "No space left on device" in warnings_in(caplog)[0]


def test_a_log_file_that_takes_nothing_is_one_warning(tmp_path, console, caplog):
    """Redirected or teed; what a full disk is where none can be mounted."""
    dest = reify(tmp_path / "logs", 2, tee={0: Std.OUT}, redirects={1: Std.OUT})
    dest.stdouts = dict.fromkeys(dest.stdouts, "/dev/full")
    codes = run(dest, console.fds, MUCH, MUCH)

    assert ([0, 0], 1_500_000) == (codes, console.out.count(b"[worker0]:y\n"))
    assert 1 == len(warnings_in(caplog))


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


def test_a_console_that_both_streams_share_is_one(tmp_path, pipe):
    """A line that has no end yet is ended before a line of the other stream."""
    dest = reify(tmp_path / "logs", 1, tee=Std.ALL)
    pump = pump_for(dest, (pipe[1], pipe[1]), pause_s=0.01)
    (worker,) = start(pump, PROMPT_THEN_OOPS)
    seen = os.read(pipe[0], 100)
    worker.stdin.write(b"go on\n")
    worker.stdin.flush()
    finish(pump, [worker])

    assert (b"[worker0]:name? ", b"\n[worker0]:oops\n") == (seen, os.read(pipe[0], 100))


def test_a_prompt_is_shown(tmp_path, pipe):
    """A line that pauses is shown as far as it has come; its rest follows without a prefix."""
    dest = reify(tmp_path / "logs", 1, tee=Std.OUT)
    pump = pump_for(dest, (pipe[1], pipe[1]), pause_s=0.01)
    (worker,) = start(pump, PROMPT)
    seen = [os.read(pipe[0], 100)]
    worker.stdin.write(b"Ada\n")
    worker.stdin.flush()
    seen.append(os.read(pipe[0], 100))
    finish(pump, [worker])

    assert [b"[worker0]:name? ", b"Ada it is\n"] == seen
    assert b"name? Ada it is\n" == contents(dest.stdouts[0])


def test_a_line_that_another_worker_interrupts_begins_again_with_its_prefix(tmp_path, pipe):
    """No two workers share a line."""
    dest = reify(tmp_path / "logs", 2, tee=Std.OUT)
    pump = pump_for(dest, (pipe[1], pipe[1]), nprocs=2, pause_s=0.01)
    first, second = start(pump, PROMPT, SAY_WHEN_TOLD)
    seen = [os.read(pipe[0], 100)]
    for worker, line in ((second, b"hello\n"), (first, b"Ada\n")):
        worker.stdin.write(line)
        worker.stdin.flush()
        seen.append(os.read(pipe[0], 100))
    finish(pump, [first, second])

    assert [b"[worker0]:name? ", b"\n[worker1]:hello\n", b"[worker0]:Ada it is\n"] == seen


def test_a_line_whose_beginning_was_shown_is_kept_aside_whole(tmp_path, pipe):
    """A word may lie across the pause."""
    dest = reify(tmp_path / "logs", 1)
    pump = pump_for(dest, (pipe[1], pipe[1]), out_words=["name? Ada"], pause_s=0.01)
    (worker,) = start(pump, PROMPT)
    seen = os.read(pipe[0], 100)
    worker.stdin.write(b"Ada\n")
    worker.stdin.flush()
    finish(pump, [worker])

    assert b"name? Ada it is\n" == seen + os.read(pipe[0], 100)
    assert b"[worker0]:name? Ada it is\n" == contents(dest.filtered_stdout)


def test_a_long_line_that_pauses_is_shown_from_its_file(tmp_path, pipe):
    """What was shown before is not shown again."""
    dest = reify(tmp_path / "logs", 1, tee=Std.OUT)
    pump = pump_for(dest, (pipe[1], pipe[1]), pause_s=0.01)
    (worker,) = start(pump, LONG_PROMPT)
    seen = b""
    while not seen.endswith(b"? "):
        seen += os.read(pipe[0], 1 << 20)
    worker.stdin.write(b"yes\n")
    worker.stdin.flush()
    finish(pump, [worker])

    assert b"[worker0]:" + b"x" * 200_000 + b"? yes\n" == seen + os.read(pipe[0], 100)


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


@pytest.mark.parametrize("place", ["a log file", "the console alone"])
def test_what_is_left_running_can_go_on_to_print(tmp_path, console, place):
    """Another process carries for it: to the log file if there is one."""
    is_filed = place == "a log file"
    dest = reify(tmp_path / "logs", 1, tee=Std.ALL if is_filed else Std.NONE)
    pump = pump_for(dest, console.fds, out_words=None if is_filed else ["apple"])
    (left,) = start(pump, SAY_WHEN_TOLD)
    pump.drain()
    pump.join()
    left.stdin.write(b"uploaded\n")
    left.stdin.close()

    path = dest.stdouts[0] if is_filed else console.paths[0]
    while contents(path) != b"uploaded\n":
        select.select([], [], [], 0.01)
    left.wait()
    assert is_filed == pump.has_handed_on


def test_a_pipe_that_a_forked_process_holds_too_ends_for_the_agent(tmp_path, console):
    """A guardian or a forked worker has copies of what the agent reads."""
    pump = pump_for(reify(tmp_path / "logs", 2, tee=Std.OUT), console.fds, nprocs=2)
    copies = [os.dup(fd) for fd in pump._streams]
    first, second = start(pump, HELLO, SAY_THEN_WAIT)
    first.communicate()
    finish(pump, [second])
    for fd in copies:
        os.close(fd)

    assert {b"[worker0]:hello", b"[worker1]:said"} == set(console.out.splitlines())


def test_draining_again_does_nothing(tmp_path, console):
    """Whoever closes may close twice."""
    pump = pump_for(reify(tmp_path / "logs", 1, tee=Std.OUT), console.fds)
    finish(pump, start(pump, HELLO))
    pump.drain()
    pump.join()

    assert b"[worker0]:hello\n" == console.out


def test_output_arrives_when_not_all_workers_could_be_started(tmp_path, console):
    """Draining without a start carries what those printed that were."""
    pump = pump_for(reify(tmp_path / "logs", 2, tee=Std.OUT), console.fds, nprocs=2)
    subprocess.run(HELLO, stdout=pump.stdout_fd(0), stderr=subprocess.DEVNULL, check=True)
    pump.drain()
    pump.join()

    assert b"[worker0]:hello\n" == console.out


def test_nothing_is_left_open(tmp_path, console):
    """Neither descriptors nor threads, attempt after attempt."""
    dest = reify(tmp_path / "logs", 2, tee={0: Std.ALL}, local_ranks_filter={0})
    before = open_fds(), threading.active_count()
    run(dest, console.fds, HELLO, HELLO, out_words=["hello"])

    fds, threads = before
    assert open_fds() <= fds
    assert threading.active_count() <= threads


def test_nothing_is_left_open_when_there_are_no_more_descriptors(tmp_path, console):
    """The caller gets the error, and its descriptors back."""
    dest = reify(tmp_path / "logs", 4, tee=Std.ALL)
    before = open_fds()
    room = [os.dup(console.fds[0]) for _ in range(10)]
    for fd in room:
        os.close(fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (room[-1], hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            pump_for(dest, console.fds, nprocs=4)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert open_fds() <= before


def test_workers_inherit_no_pipe_but_their_own(tmp_path, console):
    """Else one worker would hold another's open."""
    pump = pump_for(reify(tmp_path / "logs", 1, tee=Std.ALL), console.fds)
    is_inherited = [os.get_inheritable(fd) for fd in (pump.stdout_fd(0), pump.stderr_fd(0))]
    pump.drain()
    pump.join()

    assert [False, False] == is_inherited


def test_a_plug_in_may_leave_maps_empty(console):
    """What a destination doesn't name is inherited."""
    pump = pump_for(LogsDest(), console.fds)

    assert (None, None) == (pump.stdout_fd(0), pump.stderr_fd(0))
    pump.drain()
    pump.join()
