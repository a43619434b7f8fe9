"""How worker processes end, or why they can't start: values that cross to the agent."""

from __future__ import annotations

import errno
import os

from ...rendezvous.named_tuple import NamedTuple
from ..failures.failure import ProcessFailure
from ..plain_value import PlainValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NOT_EXECUTABLE = 126
"""What a shell reports of a program that won't run."""

_NOT_FOUND = 127
_MOST_OF_A_LINE = 256


class WorkerExit(NamedTuple):
    """How a worker process ended.

    Args:
        pid: Its process id; 0 for one that could not be started.
        exitcode: Its exit code, -n for signal n.
        ended_at: When that was seen, by ``time.monotonic()``.
        stopped: Whether it ended because the group was being stopped.
        marked: Whether elrun had a reason of its own to end it, which ``mark_failed`` was given.
    """

    pid: int
    exitcode: int
    ended_at: float
    stopped: bool
    marked: bool = False


class RunProcsResult(PlainValue):
    """How a set of worker processes ended.

    Args:
        return_values: What functions returned, None for commands, by local rank, if all succeeded.
        failures: Failed workers by local rank, the first one first.
        stdouts: Log files of standard output by local rank; "" where there is none.
        stderrs: The same for standard error.
    """

    def __init__(
        self,
        return_values: dict[int, Any] | None = None,
        failures: dict[int, ProcessFailure] | None = None,
        stdouts: dict[int, str] | None = None,
        stderrs: dict[int, str] | None = None,
    ) -> None:
        self.return_values = {} if return_values is None else return_values
        self.failures = {} if failures is None else failures
        self.stdouts = {} if stdouts is None else stdouts
        self.stderrs = {} if stderrs is None else stderrs

    def is_failed(self) -> bool:
        """Return whether a worker failed."""
        return bool(self.failures)


class StartFailed(Exception):
    """A worker's process could not be started.

    Args:
        exitcode: What a shell would report: 127 for a missing program, 126 for one that won't run.
        reason: Why, as a sentence.
    """

    def __init__(self, exitcode: int, reason: str) -> None:
        super().__init__(reason)
        self.exitcode = exitcode
        self.reason = reason


def explain(program: str, error: OSError) -> StartFailed:
    """Return why a program can't be executed, with the exit code that a shell reports.

    Args:
        program: Its path, or its name, as it was given.
        error: What the kernel answered to fork or exec.
    """
    exitcode = NOT_EXECUTABLE
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        exitcode = _NOT_FOUND
        if os.path.exists(program):  # a script
            reason = _missing_interpreter(program)
        elif "/" not in program:
            reason = "there is no such program in PATH"
    elif os.path.isdir(program):
        reason = "it is a directory"
    elif error.errno == errno.ENOEXEC:
        reason = "it is no program of this machine, or a script without a '#!' line"
    elif error.errno == errno.EACCES:
        reason = "permission denied; is it executable (chmod +x)?"
    return StartFailed(exitcode, f"{program!r} can't be executed: {reason}")


def _missing_interpreter(program: str) -> str:
    """Say what the kernel missed when it was to execute a file that is there."""
    try:
        with open(program, "rb") as file:
            first = file.readline(_MOST_OF_A_LINE)
    except OSError:
        first = b""
    if not first.startswith(b"#!"):
        return "the loader or the interpreter that it asks for is not there"
    line = first[2:].decode(errors="replace").strip(" \t\n")
    ends = "; its lines end as on Windows" if line.endswith("\r") else ""
    return f"the interpreter {line!r} that its first line names is not there{ends}"
