"""A set of worker processes: started together, watched as one, and what each ended with."""

import itertools
import os
import signal
from pathlib import Path

import pytest
import worker_kit
from elrun.agent.output.specs import DefaultLogsSpecs, Std
from elrun.agent.processes.executor import StartWait
from elrun.agent.processes.start import start_processes
from worker_kit import (
    EXIT_0,
    EXIT_3,
    HANG,
    Logs,
    children,
    start_pythons,
    start_shells,
)

pytestmark = pytest.mark.integration


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
    assert worker_kit.children() <= children


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
    ("command", "named", "ends"),
    [
        ("echo out", "stdout.log", [b"out\n"]),
        ("echo err >&2", "stderr.log", [b"err\n"]),
        ("true", "", [b""]),
        # Standard error is kept if its file was gone before it could be written.
        ("echo err >&2; echo out; rm -r {logs}/*", "", [b"", b"err\n"]),
    ],
)
def test_a_log_file_that_says_nothing_is_not_named(tmp_path, command, named, ends):
    """It is empty, or gone, and would be looked at in vain."""
    logs = DefaultLogsSpecs(log_dir=str(tmp_path), redirects=Std.ALL)
    command = command.format(logs=tmp_path)
    context = start_processes("trainer", "bash", {0: ("-c", command)}, {0: {}}, logs)
    context.wait()

    assert {0: named} == {
        rank: os.path.basename(path) for rank, path in context.log_files([0]).items()
    }
    assert context.end_of_log(0, 100).text in ends


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
    unwanted = itertools.chain([False], itertools.repeat(True))
    context = shells(*[HANG] * 10, start_wait=StartWait(lambda: next(unwanted)))

    assert (8, None) == (len(context.pids()), context.wait(0))
