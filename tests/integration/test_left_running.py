"""What workers leave running: it lives on after a success, and after nothing else."""

import os
import select
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

PATIENCE_S = 60

LEAVE = """
import os, signal, subprocess, sys
LEFT = {left!r}
if os.environ["RANK"] == "{rank}":
    {leave}
{then}
"""
IN_A_SESSION = "subprocess.Popen(['bash', '-c', LEFT], start_new_session=True)"
WAYS = {
    "a session of its own": IN_A_SESSION,
    "nohup": "os.system('nohup bash -c ' + repr(LEFT) + ' > /dev/null 2>&1 &')",
    "in the background": "subprocess.Popen(['bash', '-c', LEFT])",
    "a daemon": "os.system('(setsid bash -c ' + repr(LEFT) + ' &)')",
}
KINDS = {
    "a script": [],
    "a teed script": ["--tee", "3"],
    "a redirected script": ["--redirects", "3"],
    "a function": ["--run-path"],
    "a forked function": ["--run-path", "--start-method", "fork"],
    "a preloaded script": ["--preload", "json"],
}


class Left:
    """A process that workers leave behind: it says who it is, hears when to go on, and uploads.

    Args:
        folder: Where its pipes and its file are.
    """

    def __init__(self, folder):
        self.uploaded = folder / "uploaded"
        self._ear, self._gate = folder / "ear", folder / "gate"
        os.mkfifo(self._ear)
        os.mkfifo(self._gate)
        self.command = (
            f"echo $$ > {self._ear}; read line < {self._gate}; echo uploading; "
            f"echo x > {self.uploaded}"
        )
        self._pidfd = -1

    def await_start(self):
        """Return its process id."""
        self.pid = int(self._ear.read_text())
        self._pidfd = os.pidfd_open(self.pid)
        return self.pid

    def end(self):
        """Let it go on, and wait for its end; return whether it has uploaded its file."""
        self._gate.write_text("go on\n")
        assert self.has_ended(PATIENCE_S)
        return self.uploaded.exists()

    def has_ended(self, timeout_s=0):
        return bool(select.select([self._pidfd], [], [], timeout_s)[0])

    def close(self):
        if self._pidfd < 0:
            return
        if not self.has_ended():
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self.has_ended(PATIENCE_S)
        os.close(self._pidfd)


@pytest.fixture(name="left")
def _left(tmp_path):
    left = Left(tmp_path)
    yield left
    left.close()


@pytest.fixture(name="leaving")
def _leaving(script, left):
    """Return a script of which one rank leaves a process behind."""

    def write(way="a session of its own", rank=0, then=""):
        return script(LEAVE.format(left=left.command, leave=WAYS[way], rank=rank, then=then))

    return write


@pytest.mark.parametrize("way", WAYS)
def test_what_a_successful_script_leaves_lives_on(elrun, leaving, left, way):
    """One line names it with its command and its rank; elrun does not wait for it."""
    job = elrun(
        "--standalone", "--nproc-per-node", 2, leaving(way, rank=1), stdin=subprocess.DEVNULL
    )
    pid = left.await_start()

    assert 0 == job.process.wait(PATIENCE_S)
    assert left.end()
    err = job.finish()[2]
    (line,) = [line for line in err.splitlines() if "left running" in line]
    assert f"pid {pid} (bash -c echo $$ > " in line
    assert line.endswith("of rank 1")


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_the_worker_is(elrun, leaving, left, kind):
    """Also where its output is carried: that is given up at once, and nobody waits for its end."""
    job = elrun(*KINDS[kind], leaving())
    left.await_start()

    assert 0 == job.process.wait(PATIENCE_S)
    assert left.end()
    job.finish()  # Python's resource tracker holds its output, too, and ends a moment later


def test_a_worker_that_is_waited_for_may_leave_something_too(elrun, leaving, left, vacant_endpoint):
    """It lives while other nodes still work, and on when they have succeeded."""
    options = ["--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint, "--rdzv-id", "x"]
    then = "print('done', flush=True)\nif os.environ['RANK'] == '1': sys.stdin.read()"
    program = leaving(rank=0, then=then)
    jobs = [
        elrun(*options, "--nnodes", 2, program, stdin=subprocess.PIPE, env={"GROUP": str(number)})
        for number in range(2)
    ]
    left.await_start()
    for job in jobs:
        job.wait_for_line("done")
    assert not left.has_ended(0.5)
    for job in jobs:
        job.process.stdin.close()

    assert [0, 0] == [job.process.wait(PATIENCE_S) for job in jobs]
    assert left.end()


@pytest.mark.parametrize(
    ("end", "code"), [("fails", 3), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_nothing_is_left_of_a_job_that_does_not_succeed(elrun, leaving, left, end, code):
    """One rank has succeeded, and left a process; then the other fails, or elrun is ended."""
    then = (
        "if os.environ['RANK'] == '1':\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.read()\n"
        "    sys.exit(3)"
    )
    job = elrun(
        "--standalone", "--nproc-per-node", 2, leaving(rank=0, then=then), stdin=subprocess.PIPE
    )
    left.await_start()
    job.wait_for_line("ready")
    assert not left.has_ended(0.3)
    if end == "fails":
        job.process.stdin.close()
    else:
        job.signal(end)

    assert code == job.process.wait(PATIENCE_S)
    assert left.has_ended(PATIENCE_S if end == signal.SIGKILL else 0)
    assert not left.uploaded.exists()


def test_a_restart_stops_what_was_left(elrun, leaving, left):
    """The next attempt begins without it."""
    then = (
        "if os.environ['TORCHELASTIC_RESTART_COUNT'] == '1': os._exit(0)\n"
        "if os.environ['RANK'] == '1': sys.stdin.read(); sys.exit(1)"
    )
    program = leaving(rank=0, then=then)
    text = program.read_text().replace(
        '== "0":', "== \"0\" and os.environ['TORCHELASTIC_RESTART_COUNT'] == '0':"
    )
    program.write_text(text)
    job = elrun(
        *("--standalone", "--nproc-per-node", 2, "--max-restarts", 1, program),
        stdin=subprocess.PIPE,
    )
    left.await_start()
    job.process.stdin.close()
    assert left.has_ended(PATIENCE_S)

    assert 0 == job.process.wait(PATIENCE_S)


def test_a_program_that_launches_reaps_what_was_left(left, tmp_path):
    """It has adopted the process, and goes on: no zombie stays there."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        "from elrun import LaunchConfig, elastic_launch\n"
        "config = LaunchConfig(1, 1, 1, run_id='x')\n"
        f"leave = ['-c', {'setsid bash -c ' + chr(39) + left.command + chr(39) + ' & true'!r}]\n"
        "elastic_launch(config, 'bash')(*leave)\n"
        "print('launched', flush=True)\n"
        "sys.stdin.readline()\n"
        "while children := Path('/proc/thread-self/children').read_text().split():\n"
        "    os.sched_yield()  # what has carried its output ends a moment later\n"
        "print(len(children))\n"
    )
    with subprocess.Popen(
        [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        left.await_start()
        assert "launched\n" == process.stdout.readline()
        assert left.end()
        while os.path.exists(f"/proc/{left.pid}"):
            os.sched_yield()
        out, _ = process.communicate("\n", timeout=PATIENCE_S)

    assert out.endswith("0\n")
