"""What the kernel says of processes that do not answer."""

import os
import signal
import subprocess
import sys

import pytest
from elrun.agent.system.process_states import descendants, describe_silence, state_of

pytestmark = pytest.mark.integration


@pytest.fixture(name="shell")
def _shell():
    """A shell that waits for its child, which sleeps."""
    with subprocess.Popen(
        ["bash", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE
    ) as shell:
        child = int(shell.stdout.readline())
        yield shell, child
        os.kill(child, signal.SIGKILL)
        shell.kill()


def test_a_program_is_named(shell):
    """With what it does."""
    process, _ = shell

    assert "runs bash without elrun's hook, " == describe_silence(process.pid)[:32]


def test_a_python_without_a_hook_may_be_one_that_ends():
    """At its end an interpreter takes away what it has set for signals."""
    code = "open('/proc/self/comm', 'w').write('python3'); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1) as process:
        process.stdout.readline()
        said = describe_silence(process.pid)
        process.kill()

    assert said.startswith("runs python3, which is ending or without elrun's hook, "), said


def test_a_stopped_process_is_told_from_one_that_waits(shell):
    """And so is one that has ended."""
    process, _ = shell
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    stopped = describe_silence(process.pid)
    process.kill()
    process.wait()

    assert "is stopped (SIGSTOP)" == stopped
    assert ("has ended", "") == (describe_silence(process.pid), state_of(process.pid))


def test_descendants_are_found_as_far_as_the_limit_allows(shell):
    """Of a process that is gone there are none."""
    process, child = shell

    assert [child] == descendants(process.pid, 9)
    assert [] == descendants(process.pid, 0)
    assert [] == descendants(child, 9)
    assert [] == descendants(sys.maxsize, 9)
