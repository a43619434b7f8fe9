"""Runs the user's check of a node before each attempt (``--health-check``)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time

from ...rendezvous.errors import UnfitNodeError
from ..failures.failure import shell_exit_code
from ..system.process_tree import marked, read_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..processes.guardian import Guardian

DEFAULT_TIMEOUT_S = 30.0
MOST_OUTPUT_BYTES = 4096
_MOST_LINE_CHARS = 200
_READ_BYTES = 1 << 16


class NodeCheck:
    """A command that says, by its exit code, whether this node can take part.

    Args:
        command: A command for the shell.
        timeout_s: How long it may take.
        wait: Waits until a descriptor is readable, so many seconds at most; raises what ends the
            job.
    """

    def __init__(
        self,
        command: str,
        timeout_s: float,
        environ: Mapping[str, str],
        wait: Callable[[Sequence[int], float | None], object],
    ) -> None:
        self._command = command
        self._timeout_s = timeout_s
        self._environ = environ
        self._wait = wait

    def require_fit_node(self, guardian: Guardian | None) -> None:
        """Run the command to its end; whatever it started has gone then.

        Args:
            guardian: Ends it if the agent is killed.

        Raises:
            UnfitNodeError: It failed, or took too long; the error has the end of its output.
            SignalException: A signal has come that ends the job.
        """
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        with open(reading, "rb", buffering=0) as output:
            try:
                os.set_blocking(writing, True)
                process = subprocess.Popen(
                    ["/bin/sh", "-c", self._command],
                    stdin=subprocess.DEVNULL,
                    stdout=writing,
                    stderr=writing,
                    start_new_session=True,
                    # What leaves the session is found by the agent's mark at the end.
                    env=self._environ if guardian is None else marked(self._environ, guardian.mark),
                )
            except OSError as error:
                raise UnfitNodeError(self._sentence(f"can't be run: {error.strerror}")) from error
            finally:
                os.close(writing)
            if guardian is not None and (found := read_process(process.pid)) is not None:
                guardian.watch_helper(process.pid, found.start)
            try:
                tail, is_late = self._follow(process, output.fileno())
            finally:
                _end(process)
            tail += _rest_of(output.fileno())
        self._judge(process.returncode, tail[-MOST_OUTPUT_BYTES:], is_late=is_late)

    def _follow(self, process: subprocess.Popen[bytes], reading: int) -> tuple[bytes, bool]:
        """Return the end of what it printed, and whether it took too long."""
        deadline, tail, is_open = time.monotonic() + self._timeout_s, b"", True
        ended = os.pidfd_open(process.pid)
        try:
            while process.poll() is None:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return tail, True
                self._wait([ended, *([reading] if is_open else [])], left_s)
                with contextlib.suppress(BlockingIOError):
                    data = os.read(reading, _READ_BYTES)
                    is_open = bool(data)
                    tail = (tail + data)[-MOST_OUTPUT_BYTES:]
        finally:
            os.close(ended)
        return tail, False

    def _judge(self, exitcode: int, tail: bytes, *, is_late: bool) -> None:
        if is_late:
            within = f"did not end within {self._timeout_s:g} s (--health-check-timeout)"
            raise UnfitNodeError(self._sentence(within, tail), tail.decode(errors="replace"))
        if exitcode:
            how = f"ended with exit code {shell_exit_code(exitcode)}"
            raise UnfitNodeError(self._sentence(how, tail), tail.decode(errors="replace"))

    def _sentence(self, how: str, tail: bytes = b"") -> str:
        lines = [line for line in tail.decode(errors="replace").splitlines() if line.strip()]
        last = f": {lines[-1].strip()[:_MOST_LINE_CHARS]}" if lines else ""
        return f"the health check {self._command!r} {how}{last}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of it: its group is its session's."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _rest_of(reading: int) -> bytes:
    with contextlib.suppress(BlockingIOError):
        return os.read(reading, _READ_BYTES)
    return b""
