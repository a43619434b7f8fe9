"""What a process uses, as the kernel has it in two lines."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
from elrun.agent.system.process_usage import usage_of_process

BUSY = """
import sys, time
data = bytearray(50_000_000)
while time.process_time() < 0.2:
    pass
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.integration
def test_cpu_time_and_memory_are_those_of_the_process():
    """To a tick of the clock, and a page."""
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        usage = usage_of_process(process.pid)
        process.stdin.close()

    assert usage.cpu_s >= 0.19
    assert usage.memory_bytes > 50_000_000


@pytest.mark.integration
def test_memory_is_counted_to_the_page():
    """Since Linux 6.2 that in /proc/PID/stat is not; each CPU keeps some dozens of pages back."""
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        usage = usage_of_process(process.pid)
        exact = psutil.Process(process.pid).memory_info().rss
        process.kill()

    assert exact == usage.memory_bytes


@pytest.mark.integration
def test_a_process_that_has_ended_uses_nothing():
    """Neither one that nobody has reaped yet, nor one that is gone."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        unreaped = usage_of_process(process.pid)

    assert [None, None] == [unreaped, usage_of_process(process.pid)]


def test_a_name_with_brackets_and_spaces_is_no_trap(tmp_path):
    """A program may call itself ``a) R 1 2``."""
    name = tmp_path / "a) R 1 2"
    name.symlink_to("/bin/cat")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([name], bufsize=0, **pipes) as process:
        process.stdin.write(b"a")
        process.stdout.read(1)  # it runs by then
        usage = usage_of_process(process.pid)
        process.stdin.close()

    assert 0 < usage.memory_bytes < 1 << 30
    assert 0 < usage.started_ticks
