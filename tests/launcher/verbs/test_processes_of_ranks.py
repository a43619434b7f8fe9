"""What `elrun status` sees of workers' processes and of their GPUs."""

import contextlib
import os
import signal
import subprocess
import sys

import psutil
import pytest
from elrun.agent.hardware.gpu_meter import GpuUse
from elrun.launcher.verbs.processes import Gpus, Usages

FIRST, SECOND = GpuUse(90, 1 << 30), GpuUse(10, 2 << 30)


class Meter:
    """Stands for NVIDIA's driver."""

    def __init__(self, *uses):
        self.uses = list(uses)

    def read(self):
        return self.uses


@contextlib.contextmanager
def process(**variables):
    """Run a process with these variables that has begun by then."""
    program = "import os, signal; os.write(1, b'x'); signal.pause()"
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
    ) as running:
        running.stdout.read(1)
        yield running
        running.kill()


@pytest.mark.parametrize(
    ("variables", "uses", "expected"),
    [
        ({"LOCAL_RANK": "1"}, (FIRST, SECOND), SECOND),
        ({"LOCAL_RANK": "1"}, (SECOND,), SECOND),  # --virtual-local-rank, or one for each
        ({"LOCAL_RANK": "2"}, (FIRST, SECOND), None),
        ({"LOCAL_RANK": "1"}, (FIRST, None), None),
        ({"LOCAL_RANK": "x"}, (FIRST, SECOND), None),
        ({"LOCAL_RANK": "0"}, (), None),
    ],
)
def test_a_rank_s_gpu_is_that_of_its_local_rank(variables, uses, expected):
    """Of those that it sees."""
    with process(**variables) as worker:
        assert expected == Gpus(lambda _: Meter(*uses)).of(worker.pid)


def test_a_driver_that_fails_is_asked_once():
    """It may take long each time."""
    asked = []

    def fails(_):
        asked.append(1)
        raise OSError(5, "the driver is in trouble")

    gpus = Gpus(fails)

    assert [None, None] == [gpus.of(os.getpid()), gpus.of(os.getpid())]
    assert [1] == asked


def test_a_rank_that_has_ended_does_not_hide_the_gpus_of_the_others():
    """It may end at any moment."""
    gpus = Gpus(lambda _: Meter(FIRST))
    with process() as worker:
        worker.kill()
        worker.wait()
        ended = gpus.of(worker.pid)

    assert [None, FIRST] == [ended, gpus.of(os.getpid())]


def test_without_a_driver_no_library_is_loaded(monkeypatch):
    """Most hosts have no GPU."""
    monkeypatch.setattr("elrun.agent.monitoring.samples.NVIDIA_DRIVER", "/no/driver")
    monkeypatch.setitem(sys.modules, "elrun.agent.hardware.gpu_meter", None)

    assert Gpus().of(os.getpid()) is None


def test_without_a_driver_no_thread_is_started(monkeypatch):
    """There would be one for each rank."""
    monkeypatch.setattr("elrun.agent.monitoring.samples.NVIDIA_DRIVER", "/no/driver")
    monkeypatch.setattr("elrun.launcher.verbs.processes.call_in_time", None)

    assert Gpus().of(os.getpid()) is None


def test_the_share_of_a_cpu_is_that_since_the_start_then_that_since_the_last_look():
    """As `top` shows it."""
    usages = Usages(Gpus(lambda _: None))
    program = "while True: pass"
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", program]) as busy:
        usage = None
        while usage is None or usage.cpu_percent == 0:
            usage = usages.of(busy.pid)
        busy.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, busy.pid, os.WSTOPPED)  # which may return before it leaves the CPU
        while usages.of(busy.pid).cpu_percent:
            os.sched_yield()
        idle = usages.of(busy.pid)
        busy.kill()

    assert 0 < usage.cpu_percent
    assert (0, "stopped") == (idle.cpu_percent, idle.state)
    assert idle.memory_bytes > 0


def test_memory_is_counted_to_the_page():
    """Since Linux 6.2 that in /proc/PID/stat is not; each CPU keeps some dozens of pages back."""
    usages = Usages(Gpus(lambda _: None))
    with process() as worker:
        worker.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, worker.pid, os.WSTOPPED)
        exact = psutil.Process(worker.pid).memory_info().rss
        usage = usages.of(worker.pid)

    assert exact == usage.memory_bytes


def test_a_process_that_waits_runs_and_one_that_is_stopped_is_stopped():
    """A healthy rank sleeps most of the time, and so does one that hangs."""
    usages = Usages(Gpus(lambda _: None))
    with process() as worker:
        calm = usages.of(worker.pid).state
        worker.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, worker.pid, os.WSTOPPED)
        stopped = usages.of(worker.pid).state

    assert ("running", "stopped") == (calm, stopped)
    assert usages.of(worker.pid) is None
