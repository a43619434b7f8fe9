"""The process that runs ``hook/fork_server.py``, and the channel on which the agent talks to it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ..processes.executor import Executor, StartWait
from ..processes.stop import KILL_WAIT_S
from ..system.pidfd import wait_briefly, wait_readable
from .forked import ANSWER_S, ForkedProcess, read_answer, send_message

_END_WAIT_S = 1.0
"""How long a process whose channel is closed may take to end, until it counts as silent."""


class ForkServerProcess:
    """A process of the agent's that forks workers at the agent's request.

    Args:
        command: What it runs until the fork server takes over.
        environment_for: Returns its environment, given the number of its end of the channel.
        start_wait: How the agent waits until the command is loaded.

    Raises:
        OSError: There can be no more descriptors or processes.
        ValueError: The command can't be given to a process.
        StartFailed: The command can't be executed.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment_for: Callable[[int], dict[str, str]],
        start_wait: StartWait | None = None,
    ) -> None:
        with contextlib.ExitStack() as undo:
            self._channel, theirs = socket.socketpair()
            undo.enter_context(self._channel)
            with theirs:
                executor = Executor()
                self.process = executor.execute(
                    command,
                    environment_for(theirs.fileno()),
                    stdout=2,  # standard output belongs to the workers
                    stderr=None,
                    inherited_fds=[theirs.fileno()],
                )
            for failure in executor.settle(start_wait).values():
                self.process.let_go()
                raise failure
            executor.kill_unloaded()  # where the agent stops before the command is loaded
            executor.close()
            undo.pop_all()
        self._channel.settimeout(ANSWER_S)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def filenos(self) -> list[int]:
        """Return what becomes readable when ``has_answered`` has changed."""
        return [self._channel.fileno()]

    def has_answered(self) -> bool:
        """Return whether ``read_answer`` would not wait."""
        return wait_briefly(self.filenos(), 0)

    def send(self, request: Mapping[str, Any], fds: Collection[int]) -> None:
        """Send a request, with descriptors.

        Raises:
            OSError: The process has ended, or does not read.
        """
        send_message(self._channel, request, fds)

    def ask_for(
        self,
        group: Sequence[ForkedProcess],
        numbers: Collection[int],
        fds: Collection[int],
        *,
        waits: bool,
        store: Mapping[str, Any] | None,
    ) -> None:
        """Ask for processes to be forked; see ``Preloading.request``.

        Raises:
            OSError: The process has ended, or does not read.
        """
        request = {"agent": os.getpid(), "fds": list(numbers), "waits": waits, "count": len(group)}
        if store is not None:
            request["store"] = store
        self.send(request, [*fds, *(each.theirs.fileno() for each in group)])
        for each in group:
            each.theirs.close()  # the line is to end with the process

    def read_answer(self) -> dict[str, Any]:
        """Wait for an answer, and return it.

        Raises:
            OSError: The process has ended, or does not answer.
        """
        return read_answer(self._channel)

    def describe_end(self) -> str:
        """Return what has become of the process, after its channel has failed, as a verb."""
        wait_readable([self.process.ended_fd], time.monotonic() + _END_WAIT_S)
        if not self.process.look():
            return "does not answer"
        return f"ended (exit code {self.process.exitcode})"

    def kill(self) -> None:
        """Kill it, and what it has started in its process group."""
        self.process.signal_group(signal.SIGKILL)

    def close(self, patience_s: float) -> None:
        """Have it end, and reap it.

        Args:
            patience_s: How long it may take to end by itself, once the channel is closed.
        """
        self._channel.close()
        wait_readable([self.process.ended_fd], time.monotonic() + patience_s)
        self.kill()
        wait_readable([self.process.ended_fd], time.monotonic() + KILL_WAIT_S)
        self.process.look()
        self.process.let_go()
