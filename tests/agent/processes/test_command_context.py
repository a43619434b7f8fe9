"""Workers that are commands."""

import os
import subprocess
import sys

import pytest
import worker_kit
from elrun.agent.processes.start import start_processes
from worker_kit import HANG, Ear, Logs, start_shells

pytestmark = pytest.mark.integration


def start(program, *args):
    return start_processes("trainer", program, {0: args}, {0: {}}, Logs())


def failure_of(program):
    context = start(program)
    result = context.wait()
    context.close()
    return result.failures[0]


def test_a_missing_program_is_a_failed_worker():
    """It has a shell's exit code for that, and one sentence that names it."""
    failure = failure_of("no-such-program")

    assert (127, 0) == (failure.exitcode, failure.pid)
    assert (
        "'no-such-program' can't be executed: there is no such program in PATH" == failure.summary
    )


@pytest.mark.parametrize(
    ("content", "mode", "exitcode", "reason"),
    [
        ("#!/bin/sh\n", 0o644, 126, "is it executable (chmod +x)?"),
        (
            "#!/no/such/interpreter -u\n",
            0o755,
            127,
            "the interpreter '/no/such/interpreter -u' that its first line names is not there",
        ),
        ("#!/bin/sh\r\necho\r\n", 0o755, 127, r"'/bin/sh\r' that its first line names is not"),
        ("#!/bin/sh\r\necho\r\n", 0o755, 127, "its lines end as on Windows"),
        ("echo without a first line\n", 0o755, 126, "a script without a '#!' line"),
    ],
)
def test_a_script_that_cannot_be_executed_is_a_failed_worker(
    tmp_path, content, mode, exitcode, reason
):
    """The sentence says what is wrong with it."""
    script = tmp_path / "script"
    script.write_text(content)
    script.chmod(mode)

    failure = failure_of(str(script))

    assert exitcode == failure.exitcode
    assert reason in failure.summary


def test_a_directory_is_no_program(tmp_path):
    """It counts as not executable, and the sentence says what it is."""
    failure = failure_of(str(tmp_path))

    assert 126 == failure.exitcode
    assert "it is a directory" in failure.summary


def test_a_worker_that_cannot_be_started_fails_the_group():
    """The others are started, and stopped by ``close``; only started ones have a pid."""
    context = start_processes(
        "trainer",
        "env",
        {0: ("sleep", "1000"), 1: ("sleep", "1000")},
        {0: {}, 1: {"PATH": "/nowhere"}},
        Logs(),
    )
    pids = context.pids()

    result = context.wait(0)
    context.close()

    assert ([0], [1]) == (list(pids), list(result.failures))
    assert {0: -15, 1: 127} == {rank: end.exitcode for rank, end in context.exits.items()}


def test_arguments_are_passed_as_text(tmp_path):
    """Each argument is one word for the program, whatever it holds."""
    ear = Ear(tmp_path)
    context = start_processes(
        "trainer",
        "bash",
        {0: ("-c", 'echo $# "$@" > $0', ear.path, 3, "a  b", "")},
        {0: {}},
        Logs(),
    )

    assert ["3", "3", "a", "b"] == ear.hear()
    context.close()


def test_each_worker_is_a_session_that_dies_with_the_agent(tmp_path):
    """It leads its session and its process group, and SIGKILL is its parent-death signal."""
    ear = Ear(tmp_path)
    program = (
        "import ctypes, os; signal = ctypes.c_int();"
        "ctypes.CDLL(None).prctl(2, ctypes.byref(signal), 0, 0, 0);"
        "ids = os.getpid(), os.getsid(0), os.getpgid(0);"
        f"print(*ids, signal.value, file=open({ear.path!r}, 'w'))"
    )
    context = start(sys.executable, "-c", program)
    pid = str(context.pids()[0])

    assert [pid, pid, pid, "9"] == ear.hear()
    context.close()


def test_workers_have_no_descriptor_of_the_agents(tmp_path):
    """Only the three standard streams are inherited."""
    ear = Ear(tmp_path)
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    context = start_shells(f"echo /proc/$$/fd/* > {ear.path}; {HANG}")
    fds = {word.rpartition("/")[2] for word in ear.hear()}
    context.close()
    os.close(read_end)
    os.close(write_end)

    # bash has the ear itself open, and puts its copy of standard output on 10 meanwhile
    assert {"0", "1", "2"} <= fds
    assert str(write_end) not in fds


def test_standard_input_is_inherited(tmp_path):
    """A worker reads what the agent could read, as under torchrun."""
    ear = Ear(tmp_path)
    agent = (
        "from worker_kit import start_shells\n"
        f"start_shells('read word; echo $word > {ear.path}').wait()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", agent],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.path.dirname(worker_kit.__file__)},
    )
    process.stdin.write(b"word\n")
    process.stdin.close()

    assert ["word"] == ear.hear()
    process.wait()
