"""What a pump needs and gives back: descriptors and threads, few or none of them."""

import contextlib
import os
import resource
import select
import subprocess
import threading

import pytest
from carrier_kit import PATIENCE_S, fds_and_threads, more_than
from elrun.agent.output.specs import LogsDest, Std
from elrun.rendezvous.threads import NoThreadError
from pump_kit import (
    HELLO,
    SAY_THEN_WAIT,
    SAY_WHEN_TOLD,
    contents,
    finish,
    pump_for,
    reify,
    run,
    start,
)

pytestmark = pytest.mark.integration


def test_a_stream_that_nobody_asked_for_is_inherited(tmp_path, console):
    """It costs nothing: no pipe, no thread."""
    before = fds_and_threads()
    pump = pump_for(reify(tmp_path / "logs", 1), console.fds)
    pump.start()

    assert (None, None) == (pump.stdout_fd(0), pump.stderr_fd(0))
    assert (set(), set()) == more_than(before)
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
    before = fds_and_threads()
    pump = pump_for(reify(tmp_path / "logs", 2, tee=Std.ALL), console.fds, nprocs=2)

    with shortage(), pytest.raises(OSError, match=wanted):
        pump.start()
    pump.drain()
    pump.join()

    assert (set(), set()) == more_than(before)


def test_a_drain_that_can_not_start_closes_everything(tmp_path, console):
    """A start of workers has failed, for the same reason maybe, and its error is what counts."""
    before = fds_and_threads()
    pump = pump_for(reify(tmp_path / "logs", 2, tee=Std.ALL), console.fds, nprocs=2)

    with no_threads():
        pump.drain()
        pump.join()

    assert (set(), set()) == more_than(before)


@pytest.mark.parametrize("started", [0, 1])
def test_a_start_without_the_last_threads_leaves_none_running(tmp_path, console, started):
    """Those that were started before are told to end."""
    before = fds_and_threads()
    pump = pump_for(reify(tmp_path / "logs", 2, tee=Std.ALL), console.fds, nprocs=2)
    last = pump._consoles[started]
    start = last.start

    with contextlib.ExitStack() as scarce:
        last.start = lambda: (start(), scarce.enter_context(no_threads()))
        with pytest.raises(NoThreadError):
            pump.start()

    for thread in more_than(before)[1]:
        thread.join(PATIENCE_S)
    assert (set(), set()) == more_than(before)


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
    before = fds_and_threads()
    run(dest, console.fds, HELLO, HELLO, out_words=["hello"])

    assert (set(), set()) == more_than(before)


def test_nothing_is_left_open_when_there_are_no_more_descriptors(tmp_path, console):
    """The caller gets the error, and its descriptors back."""
    dest = reify(tmp_path / "logs", 4, tee=Std.ALL)
    before = fds_and_threads()
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

    assert (set(), set()) == more_than(before)


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
