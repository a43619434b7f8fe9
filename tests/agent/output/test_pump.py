"""Carrying the output of real workers through real pipes, line by line."""

import hashlib
import os
import signal
import sys
import threading
import tracemalloc

import pytest
from elrun.agent.output.specs import Std
from pump_kit import HELLO, contents, finish, pump_for, reify, run, start

pytestmark = pytest.mark.integration

UNFINISHED = ("printf", "no newline")
KILLED = ("sh", "-c", "printf 'last words'; kill -KILL $$")
NO_UTF8 = ("printf", r"\377\000\n")
NOTHING = ("true",)
FRUIT = ("printf", r"an apple\nnothing\nan orange\n")
FRUIT_THEN_UNFINISHED = ("printf", r"nothing\nan apple")
LONG_BYTES = 100_000_000
LONG_LINE = ("sh", "-c", f"head -c {LONG_BYTES} /dev/zero | tr '\\0' x; echo; echo next")
LONG_UNFINISHED = ("sh", "-c", "head -c 200000 /dev/zero | tr '\\0' x; printf apple")
LINE = "abcdefghij" * 9
TORN_PROGRAM = f"""import os
text = b"{LINE}\\n" * 300
for i in range(0, len(text), 7): os.write(1, text[i:i + 7])"""
TORN = (sys.executable, "-c", TORN_PROGRAM)


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
