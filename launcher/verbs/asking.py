"""Asks an agent over the control socket in the folder of its run."""

from __future__ import annotations

import contextlib
import json
import os
import select
import time
from typing import TYPE_CHECKING, Any

from ...agent.control.run_record import SOCKET
from ...agent.serving.local_sockets import connect_in, peer_of
from ...agent.system.process_states import state_of
from ..report.records import fault_in
from ..report.refusal import VerbRefusal
from .answers import SHAPES

if TYPE_CHECKING:
    import _socket

    from ..report.runs import Run

ANSWER_S = 5.0
"""How long an agent may take for its answer."""

_MOST_BYTES = 256 << 20
_STOPPED = ("T", "t")
_CHUNK_BYTES = 1 << 18
_HEAD_END = b"\r\n\r\n"
_OK = b" 200 "


class NoAnswer(VerbRefusal):
    """An agent has been sent a request, and has not answered in time: it may do so later."""


class Agent:
    """One agent that can be asked.

    Raises:
        VerbRefusal: It doesn't answer: it has gone, is stopped, or runs on another host.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.pid = 0
        with contextlib.closing(self._connect(ANSWER_S)) as client:
            self.pid = peer_of(client)[0]
        self.is_in_our_namespace = self.pid == run.agent_pid
        self._pidfd = -1
        with contextlib.suppress(OSError):  # it has ended, or is in another namespace
            self._pidfd = os.pidfd_open(self.pid)

    @property
    def is_hidden(self) -> bool:
        """Whether its end can't be awaited: its process ids are not those of this namespace."""
        return self.pid == 0

    @classmethod
    def of(cls, run: Run) -> Agent | str:
        """Return the agent of a run, or why it can't be asked."""
        try:
            return cls(run)
        except VerbRefusal as refusal:
            return str(refusal)

    def ask(self, path: str, timeout_s: float = ANSWER_S) -> Any:
        """Return what the agent answers, from JSON.

        Args:
            path: The request, such as ``/status``.
            timeout_s: How long the answer may take.

        Raises:
            NoAnswer: There is none in time.
            VerbRefusal: The agent can't be asked, or refuses.
        """
        try:
            with contextlib.closing(self._connect(timeout_s)) as client:
                head, body = _exchange(client, path, timeout_s)
        except TimeoutError as error:
            raise NoAnswer(self._silence(error, timeout_s)) from error
        except OSError as error:
            raise VerbRefusal(self._silence(error, timeout_s)) from error
        if _OK not in head.partition(b"\r\n")[0]:
            reason = body.decode(errors="replace").strip() or "it ended while it was asked"
            raise VerbRefusal(f"the agent of {self.run.label} gives no answer: {reason}")
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise VerbRefusal(f"the agent of {self.run.label} ended while it was asked") from error
        if path in SHAPES and (fault := fault_in(answer, SHAPES[path])):
            raise VerbRefusal(
                f"the answer of the agent of {self.run.label} is not understood ({fault}): is it "
                "one of another version?"
            )
        return answer

    def wait_for_end(self, timeout_s: float | None) -> bool:
        """Wait until the agent has ended, or for a while; return whether it has ended."""
        if self._pidfd < 0:
            return True
        waiting = select.poll()
        waiting.register(self._pidfd, select.POLLIN)
        return bool(waiting.poll(None if timeout_s is None else 1000 * timeout_s))

    def _connect(self, timeout_s: float) -> _socket.socket:
        try:
            return connect_in(self.run.folder, SOCKET, timeout_s)
        except OSError as error:
            raise VerbRefusal(self._silence(error, timeout_s)) from error

    def _silence(self, error: OSError, timeout_s: float) -> str:
        node = self.run.record.get("node")
        if node != os.uname().nodename:
            return f"the agent of {self.run.label} is on {node}: ask there"
        if isinstance(error, (TimeoutError, BlockingIOError)):
            why = "its host may be overloaded"
            if self.pid and state_of(self.pid) in _STOPPED:
                why = f"it is stopped (SIGSTOP, or a debugger): kill -CONT {self.pid} lets it go on"
            return f"the agent of {self.run.label} does not answer within {timeout_s:g} s: {why}"
        return f"the agent of {self.run.label} can't be asked: {error.strerror or error}"


def _exchange(client: _socket.socket, path: str, timeout_s: float) -> tuple[bytes, bytes]:
    deadline = time.monotonic() + timeout_s
    client.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    parts, size = [], 0
    while size <= _MOST_BYTES:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        client.settimeout(left_s)
        data = client.recv(_CHUNK_BYTES)
        if not data:
            break
        parts.append(data)
        size += len(data)
    head, _, body = b"".join(parts).partition(_HEAD_END)
    return head, body
