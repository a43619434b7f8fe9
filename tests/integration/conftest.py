"""Real jobs: the command as users type it, watched to its end, with nothing left behind."""

import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from elrun.rendezvous.stores.etcd.server import EtcdServer
from network_kit import why_no_namespaces
from preload_kit import PRELOADABLE

TOKEN = "ELRUN_TEST_JOB"
HERE = Path(__file__).parent
# What `nohup` or a shell's `&` has ignored would be ignored by the jobs, too; they are tested as in
# a terminal.
IGNORED = [
    number.name.removeprefix("SIG")
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
    if signal.getsignal(number) is signal.SIG_IGN
]
HEED_SIGNALS = ("env", f"--default-signal={','.join(IGNORED)}") if IGNORED else ()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark what lies in this folder: `make check` leaves it out."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.integration)


@dataclass
class Job:
    """A running elrun."""

    process: subprocess.Popen
    out: list[str] = field(default_factory=list)

    def wait_for_line(self, start):
        """Return the next line of standard output that starts so; read what comes before."""
        for line in self.process.stdout:
            self.out.append(line)
            if line.startswith(start):
                return line.rstrip("\n")
        raise AssertionError(
            f"no line {start!r}; it said {self.out} and {self.process.stderr.read()}"
        )

    def signal(self, number):
        self.process.send_signal(number)

    def finish(self, timeout_s=240):
        """Return exit code, standard output and standard error."""
        rest, err = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, "".join(self.out) + rest, err


def processes_with(token):
    """Return the pids whose environment carries the token."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            environ = Path("/proc", entry, "environ").read_bytes()
        except OSError:
            continue
        if f"{TOKEN}={token}".encode() in environ.split(b"\0"):
            found.append(int(entry))
    return found


def kill_after(pid, patience_s):
    """Let a process end by itself, or kill it and return what it was."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        if select.select([fd], [], [], patience_s)[0]:
            return None
        told = f"{pid}: {Path(f'/proc/{pid}/cmdline').read_bytes().replace(bytes(1), b' ')!r}"
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        return None
    else:
        return told
    finally:
        os.close(fd)


@pytest.fixture(name="elrun")
def _elrun(tmp_path):
    """Start ``python -m elrun ARGS``; afterwards nothing that it started may be alive."""
    token = tmp_path.name + os.urandom(4).hex()
    jobs = []

    def start(*args, env=None, command=("-m", "elrun"), prefix=(), **options):
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("PET_", "SLURM_"))}
        variables |= {TOKEN: token, "PYTHONFAULTHANDLER": "1", **(env or {})}
        process = subprocess.Popen(
            [*HEED_SIGNALS, *prefix, sys.executable, *command, *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=variables,
            cwd=tmp_path,
            **options,
        )
        jobs.append(Job(process))
        return jobs[-1]

    start.token = token
    yield start
    for job in jobs:
        if job.process.poll() is None:
            job.process.kill()
        job.process.wait()
        job.process.stdout.close()
        job.process.stderr.close()
        if job.process.stdin:
            job.process.stdin.close()
    # What a killed agent left is its guardian's to kill, which takes a moment.
    patience_s = 5 if any(job.process.returncode == -signal.SIGKILL for job in jobs) else 0
    left = [told for pid in processes_with(token) if (told := kill_after(pid, patience_s))]
    assert [] == left


@pytest.fixture(name="script")
def _script(tmp_path):
    """Write a program and return its path."""

    def write(text, name="script.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture(name="vacant_endpoint")
def _vacant_endpoint(vacant_port):
    """An endpoint at which nobody listens, and where only this test's jobs will."""
    return f"127.0.0.1:{vacant_port()}"


@pytest.fixture(name="meeting", params=["c10d", "etcd-v2", "etcd-v3"])
def _meeting(request, vacant_endpoint):
    """A backend, and an endpoint for it."""
    if request.param == "c10d":
        yield request.param, vacant_endpoint
    else:
        with EtcdServer(v2=request.param == "etcd-v2") as server:
            yield request.param, server.get_endpoint()


@pytest.fixture(scope="module", name="_namespaces")
def _need_namespaces():
    reason = why_no_namespaces()
    if reason:
        pytest.skip(reason)


@pytest.fixture(name="preloadable")
def _preloadable(tmp_path):
    """Lay a module beside the script."""
    (tmp_path / "preloadable.py").write_text(PRELOADABLE)
