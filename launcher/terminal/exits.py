"""How `main` ends a program: by an exit code, and yet by the error that torch's `main` raises.

A program that calls `main` and catches nothing ends with elrun's exit code and without a traceback
of elrun's own. One that was written for torchrun may catch ``ChildFailedError`` or ``ValueError``,
and gets that.
"""

from __future__ import annotations

from ...agent.failures.failure import ChildFailedError
from ...rendezvous.errors import UsageError
from .process_end import ExitCode


class FailureExit(SystemExit, ChildFailedError):
    """A worker failed, and the restarts are spent.

    Args:
        code: elrun's exit code.
        failed: Which workers, and how.
    """

    def __init__(self, code: int, failed: ChildFailedError) -> None:
        ChildFailedError.__init__(self, failed.name, failed.failures, failed.report)
        self.code = code


class UsageExit(SystemExit, UsageError):
    """The command can't be used, and nothing was started.

    Args:
        reason: Why, as a sentence for people.
    """

    def __init__(self, reason: str) -> None:
        UsageError.__init__(self, reason)
        self.code = ExitCode.BAD_USAGE


def exit_of(code: int, cause: BaseException | None) -> SystemExit:
    """Return what ends the program.

    Args:
        code: elrun's exit code; not that of a success.
    """
    if isinstance(cause, ChildFailedError):
        return FailureExit(code, cause)
    if code == ExitCode.BAD_USAGE and cause is not None:
        return UsageExit(str(cause))
    return SystemExit(code)
