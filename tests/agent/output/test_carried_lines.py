"""Lines of several workers that share one standard error: carried whole and without delay."""

import fcntl
import os
import threading

import pytest
from carrier_kit import read, worker
from elrun.agent.output.carrying import (
    _REST_OF_LINE_S,
    KEPT_BYTES,
    LONGEST_LINE_BYTES,
    KeptOutput,
    Lines,
)


def write_all(fd, texts):
    """Write each text by one call."""
    for text in texts:
        assert len(text) == os.write(fd, text)
    os.close(fd)


@pytest.mark.parametrize("place", ["a pipe", "a file"])
@pytest.mark.parametrize(
    ("length", "pipe_bytes"), [(100, 0), (5_000, 0), (100_000, 0), (100_000, 1 << 20)]
)
def test_long_lines_of_several_ranks_do_not_mix(
    carriers, target, tmp_path, place, length, pipe_bytes
):
    """Though they come through pipes that hold less, or more than is read at once, together."""
    path = tmp_path / "log"
    to = os.open(path, os.O_WRONLY | os.O_CREAT) if place == "a file" else target[1]
    carrier = carriers(0, 1, 2, to=to)
    lines = {rank: b"%d" % rank * length + b"\n" for rank in range(3)}
    count = 600_000 // length
    writing = [
        threading.Thread(target=write_all, args=(worker(carrier, rank), [line] * count))
        for rank, line in lines.items()
    ]
    for rank in lines if pipe_bytes else ():
        fcntl.fcntl(carrier.stderr_fd(rank), fcntl.F_SETPIPE_SZ, pipe_bytes)
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
    assert (b"secondx\n line\n", pytest.approx(1.03 + _REST_OF_LINE_S)) == (
        written(lines),
        first.due_at,
    )

    first.take(b"\n", 1.05)

    assert b"secondx\n line\n" + b"y" * ((1 << 16) - 2) + b"\n" == written(lines)


def test_the_rest_is_waited_for_though_the_turn_comes_first(outputs, lines):
    """An output whose pipe was full has waited for the end of another one's line."""
    first, second = outputs
    second.take(b"second", 1.0)
    first.take(b"x\n" + b"y" * ((1 << 16) - 2), 1.001)
    second.take(b" line\nthird", 1.002)
    second.take(b" line\n", 1.003)
    assert b"second line\nthird line\nx\n" == written(lines)

    first.take(b"\n", 1.004)

    assert written(lines).endswith(b"x\n" + b"y" * ((1 << 16) - 2) + b"\n")


def test_the_rest_is_waited_for_though_the_own_turn_was_overdue(outputs, lines):
    """Another one's line has no end: it is interrupted, but not by a part of a line."""
    first, second = outputs
    second.take(b"second", 1.0)
    first.take(b"x\n" + b"y" * ((1 << 16) - 2), 1.001)
    first.show_beginning()
    assert b"secondx\n" == written(lines)

    first.show_beginning()

    assert b"secondx\n" + b"y" * ((1 << 16) - 2) == written(lines)


@pytest.mark.parametrize(("size", "is_held"), [(1 << 15, False), ((1 << 15) + 1, True)])
def test_a_pipe_may_have_been_filled_after_the_look_at_it(outputs, lines, size, is_held):
    """It had room a moment before; pages that are not full to the end hold more than half of it."""
    first, _ = outputs

    first.take(b"y" * size, 1.0)

    assert is_held == (b"" == written(lines))


@pytest.mark.parametrize("text", [b"name? ", b"\r 10%", b"...", b"\x1b[1m"])
def test_a_prompt_waits_for_nothing(carriers, target, text):
    """It came from a pipe that was not full: the worker has written no more."""
    carrier = carriers()
    fd = worker(carrier)
    carrier.carry()
    os.write(fd, text)

    assert text == read(target[0], len(text))


def test_a_prompt_after_much_waits_for_nothing(carriers, target):
    """The pipe can't have been full: so the worker has written no more."""
    carrier = carriers()
    fd = worker(carrier)
    text = b"x" * 99 + b"\n"
    os.write(fd, text * 300 + b"name? ")
    carrier.carry()

    assert text * 300 + b"name? " == read(target[0], 30_006)


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
