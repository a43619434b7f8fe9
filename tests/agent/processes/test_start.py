"""A set of worker processes: watched and stopped as one."""

import errno
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import worker_kit
from elrun.agent.output.specs import DefaultLogsSpecs, Std
from elrun.agent.processes.command_context import SubprocessContext
from elrun.agent.processes.executor import StartWait
from elrun.agent.processes.start import start_processes
from elrun.agent.system.pidfd import wait_any
from worker_kit import (
    EXIT_0,
    EXIT_3,
    HANG,
    PATIENCE_S,
    Ear,
    Logs,
    children,
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


def test_success_is_told_when_all_have_succeeded(shells):
    """A result comes with the last worker, and commands return None."""
    result = shells(EXIT_0, EXIT_0).wait()

    assert not result.is_failed()
    assert {0: None, 1: None} == result.return_values


def test_a_look_does_not_wait(shells):
    """``wait(0)`` and a short wait say None while workers run."""
    context = shells(HANG)

    assert context.wait(0) is None
    assert context.wait(0.01) is None


def test_some_that_succeeded_are_no_result_yet(shells):
    """Success is the group's, so one worker that still runs holds it back."""
    context = shells(EXIT_0, HANG)

    worker_kit.wait_until_ended(context, 1)

    assert context.wait(0) is None
    assert [0] == list(context.exits)


def test_a_failure_is_told_before_the_others_have_ended(shells):
    """A look stops nobody: the agent says how long the others have."""
    context = shells(HANG, EXIT_3)
    worker_kit.wait_until_ended(context, 1)

    result = context.look()

    assert [3] == [failure.exitcode for failure in result.failures.values()]
    assert [1] == list(result.failures) == list(context.exits)


def test_whoever_waited_for_a_result_has_nothing_to_stop(shells):
    """As in torch, ``wait`` closes: nobody has to, after ``start_processes(...).wait()``."""
    context = shells(HANG, EXIT_3)
    pids = set(context.pids().values())

    result = context.wait()

    assert [1] == list(result.failures)
    assert not pids & children()
    assert {0: (-15, True), 1: (3, False)} == {
        rank: (end.exitcode, end.stopped) for rank, end in context.exits.items()
    }


def test_files_of_output_and_errors_are_told_by_rank(tmp_path):
    """A stream that goes to the console has none."""
    logs = DefaultLogsSpecs(log_dir=str(tmp_path), redirects={0: Std.ERR}, tee={1: Std.OUT})
    context = start_processes(
        "trainer", "bash", dict.fromkeys((0, 1), ("-c", "echo word")), {0: {}, 1: {}}, logs
    )

    context.wait()

    assert ["", "stdout.log"] == [os.path.basename(context.stdouts[rank]) for rank in (0, 1)]
    assert ["stderr.log", ""] == [os.path.basename(context.stderrs[rank]) for rank in (0, 1)]
    assert {"error.json"} == {os.path.basename(path) for path in context.error_files.values()}
    assert "word\n" == Path(context.stdouts[1]).read_text()


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


def test_exits_carry_pid_and_time_in_order(shells):
    """The times are of one monotonic clock, so that they can be subtracted."""
    context = shells(EXIT_3, HANG)
    pids = context.pids()
    context.wait()
    context.close()

    first, second = context.exits.values()
    assert (pids[0], pids[1]) == (first.pid, second.pid)
    assert first.ended_at <= second.ended_at


def test_a_signal_is_a_negative_exit_code(shells):
    """Whoever was killed by signal n has the exit code -n, and a message that names it."""
    failure = shells("kill -SEGV $$").wait().failures[0]

    assert -signal.SIGSEGV == failure.exitcode
    assert "SIGSEGV" in failure.summary


def test_all_that_failed_before_they_were_stopped_are_failures(shells):
    """A worker that failed by itself in the same moment keeps its own exit code."""
    context = shells(EXIT_3, "exit 4", HANG)
    worker_kit.wait_until_ended(context, 2)

    context.close()

    assert {0: 3, 1: 4} == {rank: each.exitcode for rank, each in context.wait(0).failures.items()}


def test_of_failures_seen_at_once_the_earliest_error_file_is_first(shells, tmp_path):
    """When several have ended between two looks, the error files tell who was first."""
    files = {rank: str(tmp_path / f"{rank}.json") for rank in range(3)}
    context = shells(EXIT_3, EXIT_3, EXIT_3, error_files=files)
    for rank, second in ((1, 200), (2, 100)):
        with open(files[rank], "w"):
            os.utime(files[rank], (second, second))
    worker_kit.wait_until_ended(context, 3)

    assert [2, 1, 0] == list(context.wait().failures)


def test_a_worker_that_was_failing_already_is_a_failure(shells, ear, tmp_path):
    """One that left its error file, and was only slow to end, ended by its exception, not by us."""
    file = str(tmp_path / "error.json")
    context = shells(f"echo '{{\"message\": \"it broke\"}}' > {file}; echo > {ear.path}; {HANG}",
                     HANG, error_files={0: file})  # fmt: skip
    ear.hear()

    context.close()

    assert {0: (1, False), 1: (-15, True)} == {
        rank: (end.exitcode, end.stopped) for rank, end in context.exits.items()
    }
    assert "it broke" == context.wait(0).failures[0].summary


def test_stopped_workers_are_no_failure(shells):
    """A group that was stopped while it ran has no result."""
    context = shells(HANG, HANG)

    context.close()

    assert context.wait(0) is None
    assert context.wait() is None


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


def test_urgency_ends_the_wait_at_once(shells, ear, never):
    """A readable ``urgent_fd`` means SIGKILL now, however long the time-out is."""
    read_end, write_end = os.pipe()
    os.write(write_end, b"!")
    context = shells(DEAF.format(ear=ear.path, never=never))
    ear.hear()

    context.close(timeout=10_000, urgent_fd=read_end)

    assert -9 == context.exits[0].exitcode
    assert b"!" == os.read(read_end, 1)
    os.close(read_end)
    os.close(write_end)


def test_a_suspended_worker_is_stopped_too(shells):
    """A stopped process takes no signal but SIGKILL and SIGCONT; so it gets SIGCONT as well."""
    context = shells(HANG)
    os.kill(context.pids()[0], signal.SIGSTOP)

    context.close(timeout=10_000)

    assert -15 == context.exits[0].exitcode


def test_sixty_four_workers_are_one_group(shells):
    """Many workers are started, watched and stopped like two."""
    context = shells(*[HANG] * 63, EXIT_3)

    result = context.wait()
    context.close()

    assert [63] == list(result.failures)
    assert set(range(64)) == set(context.exits)
    assert worker_kit.have_ended(context.pids().values())


def test_fifty_groups_leave_nothing_in_the_agent(shells):
    """No descriptor and no child, ended or not, stays behind."""
    shells(EXIT_0).close()
    fds, children = worker_kit.open_fds(), worker_kit.children()

    for _ in range(50):
        context = start_shells("sleep 1000 & exit 0", HANG, EXIT_3)
        context.wait()
        context.close()

    assert worker_kit.open_fds() <= fds
    assert children == worker_kit.children()


def test_somebody_else_who_reaps_does_not_hang_the_group(shells):
    """A worker whose exit code was taken by ``os.wait`` counts as failed with 255."""
    context = shells(EXIT_0)
    os.waitpid(context.pids()[0], 0)

    assert 255 == context.wait().failures[0].exitcode


def test_exit_codes_are_known_where_sigchld_was_ignored(shells):
    """It is inherited from whoever started the agent, and would make the kernel forget them."""
    previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        failure = shells(EXIT_3).wait().failures[0]
    finally:
        signal.signal(signal.SIGCHLD, previous)

    assert 3 == failure.exitcode


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


def test_workers_inherit_the_environment_and_get_their_own(monkeypatch, tmp_path, ear):
    """What is added comes on top; the agent's mark comes after that of an outer agent."""
    monkeypatch.setenv("OURS", "inherited")
    monkeypatch.setenv("ELRUN_AGENT", "outer")
    context = start_processes(
        "trainer",
        "bash",
        {0: ("-c", f"echo $OURS $ADDED $ELRUN_AGENT > {ear.path}")},
        {0: {"ADDED": "0"}},
        Logs(),
    )
    ours, added, mark = ear.hear()
    context.close()

    assert ("inherited", "0") == (ours, added)
    assert mark.startswith("outer:")


def test_the_log_file_of_a_worker_is_that_of_its_standard_error(tmp_path):
    """Where both streams say something, standard error says more about a failure."""
    out, err = str(tmp_path / "out"), str(tmp_path / "err")
    context = start_processes(
        "trainer",
        "bash",
        dict.fromkeys(range(3), ("-c", "echo out; echo err >&2")),
        {rank: {} for rank in range(3)},
        Logs(stdouts={0: out, 1: out + "1", 2: ""}, stderrs={0: err, 1: os.devnull, 2: os.devnull}),
    )
    context.wait()
    context.close()

    assert {0: err, 1: out + "1", 2: ""} == context.log_files(range(3))
    assert ["out\n", "err\n"] == [Path(path).read_text() for path in (out, err)]


@pytest.mark.parametrize(
    ("command", "named", "end"),
    [
        ("echo out", "stdout.log", b"out\n"),
        ("echo err >&2", "stderr.log", b"err\n"),
        ("true", "", b""),
        ("echo err >&2; echo out; rm -r {logs}/*", "", b""),
    ],
)
def test_a_log_file_that_says_nothing_is_not_named(tmp_path, command, named, end):
    """It is empty, or gone, and would be looked at in vain."""
    logs = DefaultLogsSpecs(log_dir=str(tmp_path), redirects=Std.ALL)
    command = command.format(logs=tmp_path)
    context = start_processes("trainer", "bash", {0: ("-c", command)}, {0: {}}, logs)
    context.wait()

    assert {0: named} == {
        rank: os.path.basename(path) for rank, path in context.log_files([0]).items()
    }
    assert end == context.end_of_log(0, 100).text


@pytest.mark.parametrize("ranks", [(), (1,), (0, 2)])
def test_local_ranks_count_from_zero(ranks):
    """Arguments for other local ranks are refused."""
    with pytest.raises(RuntimeError, match="one entry for each local rank"):
        start_processes(
            "trainer", "true", dict.fromkeys(ranks, ()), {rank: {} for rank in ranks}, Logs()
        )


def test_what_cannot_be_passed_to_a_program_leaves_nothing_running():
    """An error at the start of one worker ends those that were started before."""
    children = worker_kit.children()

    with pytest.raises(ValueError, match="null byte"):
        start_pythons("input()", "\0")

    assert children == worker_kit.children()


def test_what_is_not_wanted_any_more_is_not_started(shells):
    """The workers that run already are left to whoever closes them; there is no result."""
    unwanted = itertools.chain([False, False], itertools.repeat(True))
    context = shells(HANG, HANG, HANG, HANG, start_wait=StartWait(lambda: next(unwanted)))

    assert ([0, 1], None) == (list(context.pids()), context.wait(0))


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
