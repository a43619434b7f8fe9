"""Programs that take long to load: the agent listens meanwhile, and leaves nothing behind."""

import contextlib
import fcntl
import os
import shutil
import signal
import time

import pytest
from elrun.agent.output.specs import DefaultLogsSpecs
from elrun.agent.processes.executor import StartWait
from elrun.agent.processes.start import start_processes
from elrun.agent.system.pidfd import wait_briefly
from job_kit import until

pytestmark = pytest.mark.integration

LONG_S = 100


class HeldFile:
    """A program that can't be opened, as on a file system that doesn't answer.

    A lease is on it: the kernel tells its holder of whoever opens it, and lets them wait.
    """

    def __init__(self, path):
        self.path = path
        self._fd = os.open(path, os.O_RDONLY)
        # Told by a signal that nobody but this test waits for; SIGIO would end the process.
        fcntl.fcntl(self._fd, fcntl.F_SETSIG, signal.SIGURG)
        try:
            fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as error:
            os.close(self._fd)
            pytest.skip(f"no lease is given for a file here: {error}")

    def wait_for_opener(self):
        """Return once somebody tries to open it."""
        until(self.has_opener)

    def has_opener(self):
        return fcntl.fcntl(self._fd, fcntl.F_GETLEASE) != fcntl.F_WRLCK

    def let_go(self):
        """Let it be opened."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@pytest.fixture(name="held")
def _held(tmp_path):
    """A copy of ``sh`` that can't be opened yet."""
    with contextlib.ExitStack() as stack:

        def hold(folder):
            folder.mkdir()
            held = HeldFile(shutil.copy(shutil.which("sh"), folder / "slow"))
            stack.callback(held.let_go)
            return held

        yield hold


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_does_not_wait_for_a_program_to_be_loaded(elrun, held, tmp_path, number):
    """It has nothing to save, so that it is killed at once, whatever time workers have."""
    program = held(tmp_path / "slow_disk")
    options = ("--standalone", "--nproc-per-node", 2, "--shutdown-timeout", LONG_S)
    job = elrun(*options, "--no-python", program.path, "-c", "echo ran")
    program.wait_for_opener()

    job.signal(number)
    job.signal(signal.SIGTERM)

    code, out, err = job.finish(timeout_s=30)
    assert (128 + number, "") == (code, out)
    assert f"stopped by {signal.Signals(number).name}; none of its workers is left" in err


def test_a_slow_program_is_named_and_runs_in_the_end(elrun, held, tmp_path):
    """After some seconds one line says which program it is."""
    program = held(tmp_path / "slow_disk")
    job = elrun("--standalone", "--no-python", program.path, "-c", "echo ran")
    line = job.process.stderr.readline()
    program.let_go()

    code, out, err = job.finish()

    assert (0, "ran\n", "") == (code, out, err)
    assert f"elrun: not loaded within 5 s: '{program.path}' (pid " in line


def test_a_lost_peer_is_heard_of_while_a_program_is_loaded(elrun, held, tmp_path, vacant_endpoint):
    """The other node's failure ends the job here, too."""
    program = held(tmp_path / "slow_disk")
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    options = (*meeting, "--rdzv-id", "job", "--shutdown-timeout", LONG_S, "--no-python")
    slow = elrun(*options, program.path, "-c", "echo ran")
    failing = elrun(*options, "sh", "-c", "read go; exit 3", stdin=-1)
    program.wait_for_opener()
    failing.process.stdin.write("go\n")
    failing.process.stdin.flush()

    assert {3} == {job.finish(timeout_s=60)[0] for job in (slow, failing)}


def test_workers_that_are_loaded_have_their_time_beside_one_that_is_not(held, tmp_path):
    """The one that isn't is killed at once, and holds nobody up."""
    slow = held(tmp_path / "slow_disk")
    (tmp_path / "fast_disk").mkdir()
    shutil.copy(slow_sh := shutil.which("sh"), tmp_path / "fast_disk" / "slow")
    assert slow_sh
    saved = tmp_path / "saved"
    ready = tmp_path / "ready"
    script = (
        f"trap 'sleep 1; echo > {saved}; exit 0' TERM; echo > {ready}; while :; do sleep 1; done"
    )
    paths = [f"{tmp_path / name}:{os.environ['PATH']}" for name in ("fast_disk", "slow_disk")]

    def is_unwanted():
        return ready.exists() and slow.has_opener()

    context = start_processes(
        "trainer",
        "slow",
        dict.fromkeys(range(2), ("-c", script)),
        {rank: {"PATH": path} for rank, path in enumerate(paths)},
        DefaultLogsSpecs(),
        start_wait=StartWait(is_unwanted, lambda fds, _: wait_briefly(fds, 0.05)),
    )

    began = time.monotonic()
    context.close(signal.SIGTERM, LONG_S)

    assert saved.exists()
    assert time.monotonic() - began < LONG_S
    assert [0, -signal.SIGKILL] == [context.exits[rank].exitcode for rank in range(2)]
