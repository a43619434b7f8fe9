"""Processes that were forked from the preloading one, as the agent holds them.

Each has a line: a socket on which the agent greets it and sends what it is to run. It may be sent
long after the fork. Until then the process waits: ``hook/fork_server.py`` is its side.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..json_objects import object_in
from ..processes.process import WorkerProcess, bind_to
from ..processes.stop import KILL_WAIT_S
from ..system.pidfd import close_all, wait_briefly, wait_readable
from ..system.reaping import reap_later

ANSWER_S = 10.0
"""How long an answer may take: a fork takes milliseconds, more where memory is short."""

_CALL_S = 1.0  # a process that runs answers in less than a millisecond
_HEADER_BYTES = 8
_MOST_OF_AN_ANSWER = 1 << 20
_GREETING = b"\1"


def send_message(
    channel: socket.socket, message: Mapping[str, Any], fds: Collection[int] = ()
) -> None:
    """Send a message and descriptors to a process that runs the fork server.

    Raises:
        OSError: It has ended, or does not read.
    """
    body = json.dumps(message).encode()
    socket.send_fds(channel, [len(body).to_bytes(_HEADER_BYTES, "big")], [*fds])
    channel.sendall(body)


def read_answer(channel: socket.socket) -> dict[str, Any]:
    """Return what a process that runs the fork server has answered.

    Raises:
        OSError: It has ended, or does not answer.
    """
    text = b""
    while not text.endswith(b"\n"):
        data = channel.recv(1 << 16)
        if not data or len(text) > _MOST_OF_AN_ANSWER:  # a module may write there, too
            raise ConnectionResetError(0, "closed")
        text += data
    try:
        return object_in(text)
    except ValueError as error:
        raise ConnectionResetError(0, "not understood") from error


class ForkedProcess:
    """A process that is about to be forked, or has been, and waits for what it is to run.

    It ends when its line ends: with the agent at the latest.
    """

    def __init__(self) -> None:
        self._line, self.theirs = socket.socketpair()
        self._line.settimeout(ANSWER_S)
        self._process: WorkerProcess | None = None
        self._taken: frozenset[int] = frozenset()
        self._is_called = False
        self._is_present: bool | None = None

    @property
    def is_known(self) -> bool:
        """Whether it was greeted."""
        return self._process is not None

    @property
    def process(self) -> WorkerProcess:
        """The process, once it was greeted."""
        if self._process is None:
            raise ValueError("the process is not known yet")
        return self._process

    def fileno(self) -> int:
        """Return the agent's end of the line."""
        return self._line.fileno()

    def greet(self, pid: int) -> None:
        """Let the process know that the agent knows of it; it may go on.

        Args:
            pid: Its process id.

        Raises:
            OSError: There can be no more descriptors; the process ends.
        """
        self._process = WorkerProcess(pid)
        with contextlib.suppress(BrokenPipeError):  # it was killed: its exit code will tell
            self._line.sendall(_GREETING)

    def is_ready(self) -> bool | None:
        """Return whether it waits for what it is to run; None: it has ended.

        Its answer came after the agent took hold of it. So that is the process which has the line,
        and no other with its id.
        """
        if not wait_briefly([self._line.fileno()], 0):
            return False
        try:
            self._taken = frozenset(read_answer(self._line)["taken"])
        except OSError:
            return None
        return True

    def has_room_for(self, numbers: Collection[int]) -> bool:
        """Return whether descriptors of these numbers are free there."""
        return self._taken.isdisjoint(numbers)

    def call(self) -> None:
        """Ask it, once, for a sign that it is still there; ``is_present`` hears the answer."""
        if not self._is_called:
            self._is_called = True
            with contextlib.suppress(OSError):
                self._line.sendall(_GREETING)

    def is_present(self) -> bool:
        """Return whether it answers; a process that was killed takes a while to end."""
        self.call()
        if self._is_present is None:
            self._line.settimeout(_CALL_S)
            try:
                self._is_present = bool(self._line.recv(1))
            except OSError:
                self._is_present = False
            self._line.settimeout(ANSWER_S)
        return self._is_present

    def begin(
        self, order: Mapping[str, Any], fds: Collection[int], cpus: Collection[int]
    ) -> WorkerProcess:
        """Let it run what it was forked for.

        Args:
            cpus: CPUs that it is bound to; none: those that it has.

        Raises:
            OSError: It has ended, or does not listen.
        """
        if cpus:
            bind_to(cpus, self.process.pid)
        send_message(self._line, order, fds)
        self.let_go_of_line()
        return self.process

    def let_go_of_line(self) -> None:
        """Have nothing more to say."""
        self._line.close()
        self.theirs.close()

    def kill(self) -> None:
        """Kill it: it has nothing to save. ``await_end`` follows."""
        self.let_go_of_line()
        if self._process is not None:
            self._process.signal_group(signal.SIGKILL)

    def await_end(self, deadline: float) -> None:
        """Reap it, once it was killed; the kernel may hold it for longer.

        Args:
            deadline: When to give up, by ``time.monotonic()``.
        """
        if self._process is not None:
            wait_readable({self._process.ended_fd}, deadline)
            self._process.look()
            self._process.let_go()


def greet_group(group: Sequence[ForkedProcess], answer: Mapping[str, Any]) -> list[ForkedProcess]:
    """Let processes go on that were forked together; return those that could be forked.

    Args:
        answer: What the fork server has answered: their process ids, or why there are none.

    Raises:
        OSError: None could be forked; or there can be no more descriptors: those that were not
            greeted by then have ended, and are reaped.
    """
    if "pids" not in answer:
        raise BlockingIOError(0, answer["refusal"])
    pids = answer["pids"]
    for missing in group[len(pids) :]:
        missing.let_go_of_line()
    there = list(group[: len(pids)])
    try:
        for forked, pid in zip(there, pids, strict=True):
            forked.greet(pid)
    except OSError:
        pairs = zip(pids, there, strict=True)
        _end_unknown({pid: forked for pid, forked in pairs if not forked.is_known})
        raise
    return there


def _end_unknown(unknown: Mapping[int, ForkedProcess]) -> None:
    """End children that have run nothing, and for which there was no pidfd; reap those that end."""
    held: set[int] = set()
    for pid, forked in unknown.items():
        forked.let_go_of_line()  # which leaves room for two descriptors
        with contextlib.suppress(OSError):  # somebody else has reaped it, or has taken the room
            os.kill(pid, signal.SIGKILL)  # it is a child that nobody has reaped: the id is its own
            held.add(os.pidfd_open(pid))
    left, _ = wait_readable(held, time.monotonic() + KILL_WAIT_S)
    for pid in unknown:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    close_all(held - left)
    reap_later(left)
