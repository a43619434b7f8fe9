"""What the tests of worker processes share: how to start them, and how to hear them."""

import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path

from elrun.agent.output.specs import LogsDest, LogsSpecs
from elrun.agent.processes.start import start_processes

PATIENCE_S = 30

EXIT_0 = "exit 0"
EXIT_3 = "exit 3"
HANG = "exec sleep 1000"


class Logs(LogsSpecs):
    """Workers share the test's console; error files are where the test wants them."""

    def __init__(self, error_files=None, **streams):
        super().__init__()
        self._error_files = error_files or {}
        self._streams = streams

    def reify(self, envs):
        for rank, path in self._error_files.items():
            envs[rank]["TORCHELASTIC_ERROR_FILE"] = path
        return LogsDest(error_files=self._error_files, **self._streams)

    @property
    def root_log_dir(self):
        return ""


def start_shells(*scripts, error_files=None, **options):
    """Start one worker for each shell script."""
    return start_processes(
        name="trainer",
        entrypoint="bash",
        args={rank: ("-c", script) for rank, script in enumerate(scripts)},
        envs={rank: {"RANK": str(rank)} for rank in range(len(scripts))},
        logs_specs=Logs(error_files),
        **options,
    )


def start_pythons(*programs, **options):
    """Start one worker for each Python program."""
    return start_processes(
        name="trainer",
        entrypoint=sys.executable,
        args={rank: ("-c", program) for rank, program in enumerate(programs)},
        envs={rank: {} for rank in range(len(programs))},
        logs_specs=Logs(),
        **options,
    )


class Ear:
    """A pipe with a name, in which a worker says something."""

    def __init__(self, folder, name="ear"):
        self.path = str(folder / name)
        os.mkfifo(self.path)

    def hear(self):
        """Return what is said, as words; it ends when the last speaker closes the pipe."""
        with open(self.path) as pipe:
            return pipe.read().split()

    def say(self, word):
        """Say something to a worker that listens, or will."""
        with open(self.path, "w") as pipe:
            pipe.write(word + "\n")


def hold(*pids):
    """Return descriptors by which the ends of processes can be waited for; of some it has come."""
    held = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            held.append(os.pidfd_open(int(pid)))
    return held


def all_end(pidfds):
    """Wait until the processes have ended; return whether they did so in time."""
    waiting = set(pidfds)
    try:
        while waiting:
            ready, _, _ = select.select(list(waiting), [], [], PATIENCE_S)
            if not ready:
                return False
            waiting.difference_update(ready)
        return True
    finally:
        for fd in pidfds:
            os.close(fd)


def have_ended(pids):
    """Return whether processes have ended by now, reaped or not."""
    return not any(is_alive(int(pid)) for pid in pids)


def is_alive(pid):
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        return not select.select([fd], [], [], 0)[0]
    finally:
        os.close(fd)


def is_suspended(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


def wait_until_ended(context, count):
    """Wait until so many workers have ended, whether the context has looked or not."""
    fds = set(context.filenos())
    ended = set()
    while len(ended) < count:
        ended.update(select.select(list(fds - ended), [], [], PATIENCE_S)[0])


def children():
    """Return the pids of this process's children, zombies too."""
    found = set()
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError):  # a thread that has ended
            found.update(map(int, Path(f"/proc/self/task/{thread}/children").read_text().split()))
    return found


def open_fds():
    return set(os.listdir("/proc/self/fd"))


def write_ends(pid):
    """Return the names of the pipes that a process can write to."""
    names = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        name = os.readlink(f"/proc/{pid}/fd/{fd}")
        with open(f"/proc/{pid}/fdinfo/{fd}") as file:
            flags = int(file.read().split()[3], 8)
        if name.startswith("pipe:") and flags & os.O_WRONLY:
            names.add(name)
    return names


def wait_until(is_so):
    """Look again and again, as long as it takes within reason."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        os.sched_yield()
        assert time.monotonic() < deadline


def kill(pid, number=signal.SIGKILL):
    os.kill(int(pid), number)
