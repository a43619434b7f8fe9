"""The exit codes of elrun, in one table."""

from __future__ import annotations

import enum

from ...agent.failures.failure import shell_exit_code
from ...agent.system.signals import SignalException, TimeIsUp


class ExitCode(enum.IntEnum):
    """What elrun's own outcomes are called; 69, 70 and 75 are those of ``sysexits.h``."""

    SUCCESS = 0
    """All workers succeeded, or this node was never needed."""
    WORKER_FAILED = 1
    """A worker failed without a code of its own."""
    BAD_USAGE = 2
    """An option, a variable or the script can't be used; nothing was started."""
    UNFIT_NODE = 69
    """The health check of this node failed: it did not take part."""
    FAULT = 70
    """elrun itself failed."""
    RENDEZVOUS_FAILED = 75
    """The nodes could not meet, or lost each other: a scheduler may try again."""
    PREEMPTED = RENDEZVOUS_FAILED
    """The job left because ``--preempt-signal`` came: a scheduler may try again."""

    TIME_IS_UP = 124
    """The job has taken longer than ``--timeout``; it is what ``timeout(1)`` ends with."""


def exit_code_of_worker(exitcode: int) -> int:
    """Return elrun's exit code when a worker's failure ended the job.

    Args:
        exitcode: The worker's: its own code, or -n when signal n killed it.

    Returns:
        The worker's code, 128+n for a signal, and 1 where neither says that something failed.
    """
    code = shell_exit_code(exitcode)
    return code if 0 < code <= 255 else ExitCode.WORKER_FAILED  # noqa: PLR2004  a process's limit


def exit_code_of_stop(stopped: SignalException) -> int:
    """Return elrun's exit code when a signal stopped it, or its job's time was up."""
    is_late = isinstance(stopped, TimeIsUp)
    return ExitCode.TIME_IS_UP if is_late else exit_code_of_signal(stopped.sigval)


def exit_code_of_signal(number: int) -> int:
    """Return elrun's exit code when a signal stopped it: 128+n, as shells have it."""
    return shell_exit_code(-number)
