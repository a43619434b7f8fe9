"""What a worker is handed reaches it, whatever Python runs in the child before elrun's own code."""

import subprocess
import sys

import pytest
import worker_kit

pytestmark = pytest.mark.integration

# What newer Pythons do by themselves (gh-146313); there it finds nothing left to do.
CLOSE_TRACKER = """
from multiprocessing import resource_tracker

def close_tracker():
    tracker = resource_tracker._resource_tracker
    fork_is_multiprocessings = sys._getframe(1).f_code.co_name == "_launch"
    if tracker._fd is not None and not fork_is_multiprocessings:
        os.close(tracker._fd)
        tracker._fd = tracker._pid = None

os.register_at_fork(after_in_child=close_tracker)
"""

START_FUNCTIONS = """
import os, sys
sys.path.insert(0, {kit!r})
import multiprocessing
from multiprocessing.shared_memory import SharedMemory
import worker_kit
from elrun.agent.processes.start import start_processes
{hook}
def work(queue, size):
    memory = SharedMemory(create=True, size=size)  # the tracker hears of it
    try:
        queue.put(os.environ["ADDED"])
        return memory.size >= size
    finally:
        memory.close()
        memory.unlink()

if __name__ == "__main__":
    queue = multiprocessing.get_context(sys.argv[1]).SimpleQueue()
    envs = {{0: {{"ADDED": "a"}}, 1: {{"ADDED": "b"}}}}
    context = start_processes(
        "trainer", work, {{0: (queue, 1), 1: (queue, 2)}}, envs, worker_kit.Logs(),
        start_method=sys.argv[1])
    result = context.wait()
    context.close()
    print(result.return_values, sorted([queue.get(), queue.get()]), result.failures)
"""

# Both are closed in the child: the pipe that its standard output is to be, and one to inherit.
HAND_PIPES = """
import os
from elrun.agent.processes.executor import Executor

def close_all():
    for fd in (*out, *more):
        os.close(fd)

out, more = os.pipe(), os.pipe()
os.register_at_fork(after_in_child=close_all)
executor = Executor()
script = f"echo streams; echo inherited >&{more[1]}"
executor.execute(["sh", "-c", script], os.environ, out[1], None, {more[1]})
failures = executor.settle()
os.close(out[1])
os.close(more[1])
print(failures, os.read(out[0], 99), os.read(more[0], 99))
"""

CLOSE_EVERYTHING = """
import os
from elrun.agent.processes.executor import Executor

os.register_at_fork(after_in_child=lambda: os.closerange(3, 1000))
executor = Executor()
process = executor.execute(["true"], os.environ, None, 2, {0})
executor.settle()
_, status = os.waitpid(process.pid, 0)
print("agent", os.waitstatus_to_exitcode(status), flush=True)
"""


def run(program, *args):
    """Run a Python program to its end; return exit code and output."""
    done = subprocess.run(
        [sys.executable, program, *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=worker_kit.PATIENCE_S,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(name="program")
def _program(tmp_path):
    """Write a program to a file, which functions need to be found in."""

    def write(text):
        path = tmp_path / "program.py"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
@pytest.mark.parametrize("hook", ["", CLOSE_TRACKER], ids=["this-python", "tracker-closed"])
def test_functions_start_where_a_fork_closes_the_resource_tracker(program, method, hook):
    """Locks, queues and shared memory work in the worker, and nobody complains at the end."""
    kit = worker_kit.__file__.rpartition("/")[0]

    done = run(program(START_FUNCTIONS.format(kit=kit, hook=hook)), method)

    assert (0, "{0: True, 1: True} ['a', 'b'] {}\n", "") == done


def test_streams_and_inherited_descriptors_outlive_at_fork_functions(program):
    """A library may close in a forked child whatever it knows the number of."""
    assert (0, "{} b'streams\\n' b'inherited\\n'\n", "") == run(program(HAND_PIPES))


def test_a_child_that_lost_all_its_descriptors_does_not_go_on_as_the_agent(program):
    """It can't even say why; its exit code is that of a program that can't be executed."""
    code, out, _ = run(program(CLOSE_EVERYTHING))

    assert (0, "agent 126\n") == (code, out)
