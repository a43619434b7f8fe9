"""A set of worker processes is stopped as one: signals, deadlines, and what else ends workers."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import worker_kit
from elrun.agent.processes.command_context import SubprocessContext
from elrun.agent.system.pidfd import wait_any
from elrun.agent.system.wakeup import Urgency
from worker_kit import (
    EXIT_0,
    EXIT_3,
    HANG,
    PATIENCE_S,
    Ear,
    Logs,
    start_pythons,
    start_shells,
)

pytestmark = pytest.mark.integration

WAIT = "echo ready > {ear}; while :; do sleep 0.1; done"
COUNT_SIGNALS = """
import signal, sys
asked, go = "{}", "{}"
signals = {{signal.SIGTERM, signal.SIGINT}}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
open(asked, "w").close()
signal.sigwait({{signal.SIGTERM}})
open(asked, "w").close()
open(go).read()
sys.exit(40 + len(signal.sigpending() & signals))
"""
DEAF = "trap '' TERM; echo > {ear}; while :; do read -t 1000 < {never}; done"


@pytest.fixture(name="never")
def _never(tmp_path):
    """A pipe in which nobody ever says anything."""
    return Ear(tmp_path, "never").path


def test_closing_tells_how_each_ended(shells):
    """Afterwards every rank has an exit: the failed one its own, the others stopped by us."""
    context = shells(HANG, EXIT_3, HANG)
    context.wait()

    context.close()

    assert [1, 0, 2] == list(context.exits)
    assert {0: (-15, True), 1: (3, False), 2: (-15, True)} == {
        rank: (end.exitcode, end.stopped) for rank, end in context.exits.items()
    }
    assert [1] == list(context.wait(0).failures)


def test_a_look_asks_only_about_those_that_have_ended(shells, monkeypatch):
    """Where many run, each end of one would mean a question about all of them."""
    context = shells(HANG, HANG, EXIT_3, HANG)
    wait_any([context.filenos()[2]], time.monotonic() + PATIENCE_S)
    asked, ask = [], os.waitid

    def note(kind, number, options):
        asked.append(number)
        return ask(kind, number, options)

    monkeypatch.setattr(os, "waitid", note)
    result = context.look()

    assert ([2], 1) == ([*result.failures], len(asked))


class Unlooked(SubprocessContext):
    """The system refuses what a look needs, once the workers have been stopped."""

    def _look(self):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


class Unreadable(SubprocessContext):
    """What a worker returned can't be read back."""

    def _take_return_value(self, local_rank):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def shells_of(kind, *scripts):
    numbers = range(len(scripts))
    context = kind(
        "trainer",
        "bash",
        {i: ("-c", scripts[i]) for i in numbers},
        {i: {} for i in numbers},
        Logs(),
    )
    context.start()
    return context


def test_a_known_exit_code_is_recorded_though_nothing_can_be_looked_at(ear):
    """What stopping has seen is not forgotten: this worker was not killed."""
    context = shells_of(Unlooked, f"trap 'exit 0' TERM; {WAIT.format(ear=ear.path)}", EXIT_3, HANG)
    ear.hear()
    worker_kit.wait_until_ended(context, 1)

    context.close()

    assert {0: (0, False), 1: (3, False), 2: (-15, True)} == {
        rank: (end.exitcode, end.stopped) for rank, end in context.exits.items()
    }


def test_a_return_value_that_the_system_refuses_is_a_failure():
    """Its reason is the system's, and the other workers are stopped as after any failure."""
    result = shells_of(Unreadable, EXIT_0, HANG).wait()

    assert {0: "[Errno 5] Input/output error"} == {
        rank: failure.message for rank, failure in result.failures.items()
    }


# The descriptors end before a module is imported that few jobs need: in a process of its own.
FULL = """
import contextlib, os, resource
from worker_kit import HANG, start_shells, wait_until_ended

context = start_shells("exit 3", "exit 4", HANG)
wait_until_ended(context, 2)
context._reserve.spend()  # another thread has taken it
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
taken = []
with contextlib.suppress(OSError):
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
context.close(timeout=30)
print(sorted((rank, end.exitcode, end.stopped) for rank, end in context.exits.items()))
"""


def test_who_was_stopped_is_known_without_descriptors():
    """A stopped worker is no failure, though nothing more can be opened or imported."""
    kit = os.path.dirname(worker_kit.__file__)
    done = subprocess.run(
        [sys.executable, "-c", FULL],
        env={**os.environ, "PYTHONPATH": kit},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )

    assert "[(0, 3, False), (1, 4, False), (2, -15, True)]\n" == done.stdout


def test_stopped_workers_are_no_failure(shells):
    """A group that was stopped while it ran has no result."""
    context = shells(HANG, HANG)

    context.close()

    assert context.wait(0) is None
    assert context.wait() is None


class Opened:
    """Pipes of workers, which show what is printed once they are carried."""

    def __init__(self, gate):
        self._gate = gate
        self.is_carried = False

    def carry(self):
        if not self.is_carried:
            self.is_carried = True
            self._gate.say("shown")

    def drain(self):
        pass

    join = drain


SAVES = "(trap 'read x < {gate}; exit' TERM; " + WAIT + ") & wait"


def test_what_a_worker_s_child_prints_while_it_saves_is_shown_meanwhile(
    shells, ear, tmp_path, caplog
):
    """Its worker is a wrapper that the signal has ended; a pipe that nobody reads blocks it."""
    gate = Ear(tmp_path, "gate")
    context = shells(SAVES.format(ear=ear.path, gate=gate.path))
    ear.hear()
    context._output.outlets = opened = Opened(gate)

    context.close(timeout=PATIENCE_S / 3)

    assert (True, "") == (opened.is_carried, caplog.text)


def test_a_stop_of_workers_that_leave_nothing_is_waited_for_no_longer(shells):
    """A moment, which is as long here as the test, is the most."""
    context = shells(HANG, HANG)

    stop = context._group_stop.begin(context._guardian.tree, [], signal.SIGTERM)

    assert not stop.outlasts(PATIENCE_S)


def test_closing_twice_is_closing_once(shells):
    """The second time does nothing."""
    context = shells(HANG)
    context.close()
    exits = dict(context.exits)

    context.close()

    assert exits == context.exits


@pytest.mark.usefixtures("heeded_signals")
def test_the_death_signal_can_be_chosen(shells):
    """Workers end by the signal that ``close`` was given."""
    context = shells(HANG)

    context.close(signal.SIGINT)

    assert -signal.SIGINT == context.exits[0].exitcode


def test_a_worker_that_ignores_the_death_signal_is_killed_at_the_deadline(
    shells, ear, never, caplog
):
    """SIGKILL follows for those that are left, with a warning; the others ended by the first."""
    context = shells(DEAF.format(ear=ear.path, never=never), HANG)
    ear.hear()

    context.close(timeout=0.1)

    assert "SIGTERM did not end all in 0.1 s" in caplog.text

    assert {0: -9, 1: -15} == {rank: end.exitcode for rank, end in context.exits.items()}
    assert all(end.stopped for end in context.exits.values())


@pytest.mark.usefixtures("heeded_signals")
def test_what_the_last_request_has_ended_was_not_killed(shells, caplog):
    """Workers that had another signal before get SIGTERM at the deadline, and most end by it."""
    context = shells(HANG, HANG)

    context.close(timeout=0.0, alone=0)

    assert {0: -15, 1: -15} == {rank: end.exitcode for rank, end in context.exits.items()}
    assert "killed" not in caplog.text


def test_a_kill_after_a_last_request_names_how_long_that_was_given(shells, ear, never, caplog):
    """SIGTERM had a quarter of a second; the time before that belongs to the other signal."""
    context = shells(DEAF.format(ear=ear.path, never=never), HANG)
    ear.hear()

    context.close(timeout=0.0, alone=0)

    assert "not all had ended in 0 s, nor 0.25 s after SIGTERM: killed: " in caplog.text
    assert {0: -9, 1: -15} == {rank: end.exitcode for rank, end in context.exits.items()}


def test_urgency_ends_the_wait_at_once(shells, ear, never, caplog):
    """It means SIGKILL now, however long the time-out is, and its reason is said."""
    urgency = Urgency()
    urgency.declare("somebody is in a hurry")
    context = shells(DEAF.format(ear=ear.path, never=never))
    ear.hear()

    context.close(timeout=10_000, urgency=urgency)
    urgency.close()

    assert -9 == context.exits[0].exitcode
    assert "somebody is in a hurry: killed: " in caplog.text


def test_a_suspended_worker_is_stopped_too(shells):
    """A stopped process takes no signal but SIGKILL and SIGCONT; so it gets SIGCONT as well."""
    context = shells(HANG)
    os.kill(context.pids()[0], signal.SIGSTOP)

    context.close(timeout=10_000)

    assert -15 == context.exits[0].exitcode


def test_the_workers_survive_the_thread_that_started_them():
    """The parent-death signal is the thread's in the kernel's eyes, but not in ours."""
    contexts = []
    thread = threading.Thread(target=lambda: contexts.append(start_shells(HANG)))
    thread.start()
    thread.join()

    assert contexts[0].wait(0.05) is None
    contexts[0].close()


def test_closing_in_a_forked_child_does_nothing(shells):
    """A copy of this process has a copy of the context, but the workers aren't its."""
    context = shells(HANG)

    child = os.fork()
    if child == 0:
        context.close()
        os._exit(0)
    os.waitpid(child, 0)

    assert context.wait(0) is None


@pytest.mark.parametrize(
    ("then", "further"), [(signal.SIGTERM, 0), (signal.SIGINT, 1)], ids=["the same", "another"]
)
def test_workers_that_were_asked_early_are_asked_once(tmp_path, then, further):
    """The stop that follows repeats no signal; one that a person sends meanwhile is passed on."""
    asked, go = Ear(tmp_path, "asked"), Ear(tmp_path, "go")
    context = start_pythons(COUNT_SIGNALS.format(asked.path, go.path))
    asked.hear()
    context._group_stop.may_begin_early = True
    context._stop_if_wanted()
    asked.hear()

    context._group_stop.begin(context._guardian.tree, {}, then)
    go.say("on")
    wait_any(context.filenos(), time.monotonic() + PATIENCE_S)
    context.close()

    assert 40 + further == context.exits[0].exitcode


@pytest.mark.parametrize(
    ("code", "stops_others", "stops"),
    [
        ("exit 3", True, True),
        ("exit 3", False, False),  # a program that looks may have its own idea of what follows
        ("kill -TERM $$", True, False),  # as a scheduler does: the agent hears of it, too
        ("exit 130", True, False),
    ],
)
def test_a_failure_whose_files_take_long_stops_the_others(code, stops_others, stops):
    """Where nobody takes long, nobody is stopped by a look."""
    context = start_shells(code, HANG)
    wait_any([context._workers.all()[0].ended_fd], time.monotonic() + PATIENCE_S)
    context.look(stops_others=stops_others)
    before = context._group_stop._stop
    context._stop_if_wanted()
    after = context._group_stop._stop
    context.close()

    assert (None, stops) == (before, after is not None)


def test_workers_may_be_asked_to_end_before_they_are_stopped(shells, tmp_path):
    """Whoever stops them has words to say first, and they need not wait for these."""
    ready, asked = Ear(tmp_path, "ready"), Ear(tmp_path, "asked")
    context = shells(
        f"trap 'echo yes > {asked.path}; exit 7' TERM; echo yes > {ready.path}; "
        "while :; do sleep 0.05; done"
    )
    ready.hear()

    context.ask_to_end()
    heard = asked.hear()
    context.close()

    assert (["yes"], 7, True) == (heard, context.exits[0].exitcode, context.exits[0].stopped)


def test_one_that_failed_before_a_restart_s_stop_counts_as_failed(shells, tmp_path):
    """It was not looked at before the stop began."""
    ready = [Ear(tmp_path, f"ready-{rank}") for rank in range(2)]
    context = shells(f"echo > {ready[0].path}; {HANG}", f"echo > {ready[1].path}; {HANG}", "exit 3")
    for ear in ready:
        ear.hear()
    wait_any([context.filenos()[2]], time.monotonic() + PATIENCE_S)

    context.ask_to_end(is_replaced=True)
    context.close()

    assert {0: (-15, True), 1: (-15, True), 2: (3, False)} == {
        rank: (end.exitcode, end.stopped) for rank, end in context.exits.items()
    }


def test_files_of_workers_that_are_replaced_wait_for_the_others_start(tmp_path):
    """How they ended is known at once; whoever starts the others is not kept by file systems."""
    ready = [Ear(tmp_path, f"ready-{rank}") for rank in range(2)]
    files = {rank: str(tmp_path / f"{rank}.json") for rank in range(2)}
    empty, written = (tmp_path / f"{rank}.json.stacks" for rank in range(2))
    context = start_shells(
        f"> {empty}; echo > {ready[0].path}; {HANG}",
        f"trap 'exit 7' TERM; echo no > {written}; echo > {ready[1].path}; "
        "while :; do sleep 0.05; done",
        error_files=files,
    )
    for ear in ready:
        ear.hear()

    context.ask_to_end(is_replaced=True)
    context.close()
    ends = {rank: (end.exitcode, end.stopped) for rank, end in sorted(context.exits.items())}
    before = empty.exists(), written.exists()
    context.tidy()

    assert {0: (-15, True), 1: (7, True)} == ends
    assert ((True, True), (False, True)) == (before, (empty.exists(), written.exists()))


def test_files_of_workers_that_run_are_not_tidied(shells, tmp_path):
    """One that is empty may be written to."""
    ready = Ear(tmp_path, "ready")
    stacks = tmp_path / "0.json.stacks"
    context = shells(
        f"> {stacks}; echo > {ready.path}; {HANG}", error_files={0: str(tmp_path / "0.json")}
    )
    ready.hear()

    context.tidy()

    assert stacks.exists()
