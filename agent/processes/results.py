"""How worker processes end: values that cross from the processes to the agent."""

from __future__ import annotations

from ...rendezvous.named_tuple import NamedTuple
from ..failures.failure import ProcessFailure
from ..plain_value import PlainValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


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
