"""Starts a process that serves a workers' store, in one of several ways, and hears from it."""

from __future__ import annotations

import enum
import json
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

from ..failures.failure import end_of
from ..processes.executor import Executor
from ..processes.process import WorkerProcess
from ..system.environ import inherited_environment
from ..system.pidfd import wait_readable

if TYPE_CHECKING:
    import _socket

    from .host import Means

PROGRAM = os.path.join(os.path.dirname(__file__), "host_main.py")

_LIBUV_VARIABLE = "USE_LIBUV"
_READY = b"ready\n"
_REPORT_BYTES = 4096


class Way(enum.Enum):
    """How such a process is started; the first that works is the best."""

    FORKED = "forked from the preloading process"
    EXTENSION = "executed, with torch's C extension alone"
    WHOLE = "executed, with the whole of torch"


class StoreProcess:
    """A process that serves a store, or will when it is given a listener.

    Args:
        way: How to start it.

    Raises:
        OSError: There can be no more processes or descriptors.
        StartFailed: The same.
    """

    def __init__(self, way: Way, means: Means) -> None:
        self._guardian = means.guardian
        self._report = b""
        self.is_ready = False
        use_libuv = means.environ.get(_LIBUV_VARIABLE, "1") == "1"  # as torch in workers
        self._channel, theirs = socket.socketpair()
        try:
            with theirs:
                if way is Way.FORKED and means.preloading is not None:
                    self._process = means.preloading.fork_store_host(
                        PROGRAM, theirs.fileno(), use_libuv=use_libuv
                    )
                else:
                    folder = means.torch_folder if way is Way.EXTENSION else ""
                    self._process = _execute(theirs.fileno(), folder, use_libuv=use_libuv)
        except BaseException:
            self._channel.close()
            raise
        self._guardian.watch_helper(self._process.pid, self._process.start)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def serve(self, listener: _socket.socket) -> None:
        """Let it serve a store; if it has ended, ``look`` returns so.

        Args:
            listener: Where it listens; the process gets a copy.
        """
        try:
            socket.send_fds(self._channel, [b"\1"], [listener.fileno()])
        except (BrokenPipeError, ConnectionResetError):
            return

    def filenos(self) -> list[int]:
        """Return what becomes readable when ``look`` would find something new."""
        return [fd for fd in (self._process.ended_fd, self._channel.fileno()) if fd >= 0]

    def look(self) -> bool:
        """Find out whether it is ready, and return whether it has ended."""
        has_ended = self._process.look()  # before its last words are read
        while not (self._channel.fileno() < 0 or wait_readable([self._channel.fileno()], 0.0)[0]):
            try:
                data = self._channel.recv(_REPORT_BYTES)
            except ConnectionResetError:  # it has not read what it was sent
                data = b""
            self._report += data
            self.is_ready = self._report.startswith(_READY)
            if not data:
                self._channel.close()
        return has_ended

    def describe_end(self) -> str:
        """Return why it has ended, as the rest of a sentence: its report, else its exit code."""
        if self._report and not self.is_ready:
            return f"reported {self._report.decode(errors='replace')}"
        return end_of(self._process.exitcode or 0)

    def kill(self) -> None:
        """Kill it; ``await_end`` follows."""
        self._process.signal_group(signal.SIGKILL)
        self._guardian.forget(self._process.pid)
        self._channel.close()

    def await_end(self, deadline: float) -> None:
        """Reap it, once it has been killed.

        Args:
            deadline: When to give up, by ``time.monotonic()``.
        """
        wait_readable(self.filenos(), deadline)
        self._process.look()
        self._process.let_go()


def _execute(channel_fd: int, torch_folder: str, *, use_libuv: bool) -> WorkerProcess:
    settings = {
        "channel_fd": channel_fd,
        "torch_folder": torch_folder,
        "path": [os.path.abspath(folder) for folder in sys.path if folder],
        "use_libuv": use_libuv,
    }
    # Nothing of the user's is to run there: no site, no PYTHONPATH, no PYTHONSTARTUP.
    environment = {
        name: value
        for name, value in inherited_environment().items()
        if not name.startswith("PYTHON") or name == "PYTHONHOME"
    }
    executor = Executor()
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        return executor.execute(
            [sys.executable, "-S", "-s", PROGRAM, json.dumps(settings)],
            environment,
            stdout=nowhere,
            stderr=nowhere,
            inherited_fds=[channel_fd],
        )
    finally:
        os.close(nowhere)
        executor.close()  # the channel shows when the process ends
