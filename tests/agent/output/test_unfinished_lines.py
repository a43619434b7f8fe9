"""Lines that pause before their end: progress bars and prompts, shown as far as they have come."""

import os

import pytest
from elrun.agent.output.specs import Std
from pump_kit import SAY_THEN_WAIT, SAY_WHEN_TOLD, contents, finish, pump_for, reify, start

pytestmark = pytest.mark.integration

PROGRESS_THEN_WAIT = ("sh", "-c", r"printf '\r 1%%\r 2%%'; read line")
PROMPT = ("sh", "-c", "printf 'name? '; read name; echo $name it is")
PROMPT_THEN_OOPS = ("sh", "-c", "printf 'name? '; read name; echo oops >&2")
LONG_PROMPT = (
    "sh",
    "-c",
    "head -c 200000 /dev/zero | tr '\\0' x; printf '? '; read line; echo $line",
)


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
