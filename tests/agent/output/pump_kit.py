"""Pumps, the workers whose output they carry, and what a console has received."""

import os
import subprocess

from elrun.agent.output.pump import OutputPump
from elrun.agent.output.specs import DefaultLogsSpecs

HELLO = ("sh", "-c", "echo hello; echo oops >&2")
SAY_THEN_WAIT = ("sh", "-c", "echo said; read line")
SAY_WHEN_TOLD = ("sh", "-c", "read line; echo $line")


class Console:
    """Two files in place of a terminal."""

    def __init__(self, directory):
        self.paths = [directory / "console.out", directory / "console.err"]
        self.fds = tuple(os.open(path, os.O_WRONLY | os.O_CREAT) for path in self.paths)

    @property
    def out(self):
        return self.paths[0].read_bytes()

    @property
    def err(self):
        return self.paths[1].read_bytes()


def reify(log_dir, nprocs, **wishes):
    return DefaultLogsSpecs(str(log_dir), **wishes).reify({rank: {} for rank in range(nprocs)})


def pump_for(
    dest, console_fds, nprocs=1, *, out_words=None, err_words=None, prefixes=None, **options
):
    # Pauses of a busy machine are none of the worker's.
    options = {"pause_s": 3600, **options, "console_fds": console_fds}
    return OutputPump(dest, nprocs, prefixes, "worker", out_words, err_words, **options)


def start(pump, *commands):
    workers = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=pump.stdout_fd(rank),
            stderr=pump.stderr_fd(rank),
        )
        for rank, command in enumerate(commands)
    ]
    pump.start()
    return workers


def finish(pump, workers):
    for worker in workers:
        worker.communicate()
    pump.drain()
    pump.join()
    return [worker.returncode for worker in workers]


def run(dest, console_fds, *commands, **wishes):
    pump = pump_for(dest, console_fds, len(commands), **wishes)
    return finish(pump, start(pump, *commands))


def contents(path):
    with open(path, "rb") as file:
        return file.read()
