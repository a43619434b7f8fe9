"""Programs that are executed in children of this process."""

import os
import signal
import subprocess
import sys

import pytest
from elrun.agent.processes.executor import Executor

pytestmark = pytest.mark.integration

# The agent's pipe has taken the places of its standard input and output.
WITHOUT_STREAMS = """
import os
from elrun.agent.processes.executor import Executor
for fd in (0, 1, 2):
    os.close(fd)
reading, writing = os.pipe()
assert (0, 1) == (reading, writing)
executor = Executor()
executor.execute(["sh", "-c", "echo said"], os.environ, stdout=writing, stderr=None)
executor.settle()
os._exit(0 if os.read(reading, 9) == b"said\\n" else 1)
"""

NONE_LEFT = """
import contextlib, os, resource
from elrun.agent.processes.executor import Executor, Order

executor = Executor()
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
taken = []
with contextlib.suppress(OSError):
    while True:
        taken.append(os.open(os.devnull, os.O_RDONLY))
"""

# With a descriptor for each copy that a child is to have and few more, there is none for a pidfd.
FEW_DESCRIPTORS = f"""{NONE_LEFT}for _ in range(5):
    os.close(taken.pop())
started = executor.execute_all([Order(["/no/such"], os.environ, None, None)] * 8)
failed = executor.settle()
print(sum(getattr(each, "exitcode", None) == 126 for each in started), len(failed))
"""

# There are descriptors for a process each, and not for two copies of each at once.
TOO_FEW_FOR_ALL = f"""{NONE_LEFT}for _ in range(14):
    os.close(taken.pop())
started = executor.execute_all([Order(["true"], os.environ, 1, 2)] * 8)
failed = executor.settle()
print(sum(getattr(each, "pid", 0) > 0 for each in started), len(failed))
"""


@pytest.fixture(name="executor")
def _executor():
    executor = Executor()
    yield executor
    executor.close()


@pytest.fixture(name="say")
def _say(executor):
    """Execute a shell script with two pipes; return what comes out of each."""

    def say(script, swapped=False):
        out, err = os.pipe(), os.pipe()
        kept = os.dup(1), os.dup(2)
        os.dup2(out[1], 1)
        os.dup2(err[1], 2)
        try:
            streams = (2, 1) if swapped else (1, 2)
            process = executor.execute(["sh", "-c", script], os.environ, *streams)
        finally:
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            for fd in (out[1], err[1], *kept):
                os.close(fd)
        said = [read_all(pipe[0]) for pipe in (out, err)]
        os.waitpid(process.pid, 0)
        process.let_go()
        return said

    return say


def read_all(fd):
    with open(fd) as file:
        return file.read()


def test_streams_may_change_places(say):
    """What stands at the other's number is not lost on the way."""
    assert ["err\n", "out\n"] == say("echo out; echo err >&2", swapped=True)


def test_a_program_does_not_ignore_what_python_ignores(say):
    """A pipe without a reader ends it, as everywhere else."""
    (line, _) = say("grep SigIgn /proc/self/status")

    ignored = int(line.split()[1], 16)
    assert 0 == ignored & sum(1 << n - 1 for n in (signal.SIGPIPE, signal.SIGXFSZ))


def test_a_process_without_standard_streams_can_execute():
    """Its own pipes have their numbers then."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_STREAMS], check=False)

    assert 0 == done.returncode


def test_those_that_could_not_be_executed_are_told_together(executor):
    """By process id; their processes are no more, and the others run."""
    programs = ["true", "/no/such/program", "/"]
    processes = [executor.execute([each], os.environ, None, None) for each in programs]

    failures = executor.settle()

    assert {processes[1].pid: 127, processes[2].pid: 126} == {
        pid: failed.exitcode for pid, failed in failures.items()
    }
    with pytest.raises(ChildProcessError):
        os.waitpid(processes[1].pid, 0)
    assert 0 == os.waitpid(processes[0].pid, 0)[1]
    for process in processes:
        process.let_go()


def test_an_executor_can_be_used_again(executor):
    """A failure is told once, to those who asked for it."""
    assert {} == executor.settle()
    process = executor.execute(["/no/such/program"], os.environ, None, None)
    process.let_go()

    assert ([process.pid], {}) == (list(executor.settle()), executor.settle())


def test_a_process_that_can_not_be_watched_has_one_reason():
    """It was killed for that; its own word that there is no such program is one too many."""
    done = subprocess.run(
        [sys.executable, "-c", FEW_DESCRIPTORS], capture_output=True, text=True, check=False
    )

    assert ("6 2\n", "") == (done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        (["echo", "a\0b"], {}),
        (["echo"], {"A": "\0"}),
        (["echo"], {"A=B": "1"}),
    ],
)
def test_what_no_program_can_be_given_is_refused(executor, command, environment):
    """Before there is a process."""
    with pytest.raises(ValueError, match="take it out"):
        executor.execute(command, environment, None, None)


def test_where_descriptors_are_too_few_for_all_at_once_each_is_started_by_itself():
    """Programs that are started together need copies of their descriptors at the same time."""
    words = [sys.executable, "-c", TOO_FEW_FOR_ALL]
    output = subprocess.run(words, capture_output=True, text=True, check=True).stdout

    assert "8 0\n" == output
