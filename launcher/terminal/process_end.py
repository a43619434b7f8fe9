# ruff: noqa: SLF001  what the interpreter does at its end has no public names
"""How elrun's process ends: its exit codes, in one table, and the calls that it makes last.

Exit functions of plug-ins and tools are called, for a bounded time. All of elrun's own is closed
and flushed by then. The interpreter is not taken down: a thread may still block inside torch's
store for an answer that nobody wants any more, and that would abort the process.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys

from ...agent.failures.failure import shell_exit_code
from ...agent.system.signals import SignalException, TimeIsUp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_MOST = 255
"""No process ends with more."""

LAST_ACTS_S = 5.0
"""How long exit functions, and threads that the interpreter would wait for, may take together."""


class ExitCode:  # plain numbers: an enum takes a start nearly a million instructions
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
    return code if 0 < code <= _MOST else ExitCode.WORKER_FAILED


def exit_code_of_stop(stopped: SignalException) -> int:
    """Return elrun's exit code when a signal stopped it, or its job's time was up."""
    is_late = isinstance(stopped, TimeIsUp)
    return ExitCode.TIME_IS_UP if is_late else exit_code_of_signal(stopped.sigval)


def exit_code_of_signal(number: int) -> int:
    """Return elrun's exit code when a signal stopped it: 128+n, as shells have it."""
    return shell_exit_code(-number)


def end_process(code: int, within_s: float = LAST_ACTS_S) -> NoReturn:
    """Call the exit functions (coverage's, a plug-in's), and end this process.

    Args:
        within_s: After how many seconds it ends in any case.
    """
    try:
        if atexit._ncallbacks() or "threading" in sys.modules:  # `--help` has none
            _bound(code, within_s)
            sys.modules["threading"]._shutdown()  # waits for threads
            atexit._run_exitfuncs()
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with contextlib.suppress(OSError, ValueError):  # nobody reads it, or it is closed
                stream.flush()
    finally:
        os._exit(code)


def _bound(code: int, within_s: float) -> None:
    """End this process after a while, whatever it is doing then."""
    import threading  # in use already, if there is anything to do

    from ...rendezvous.threads import NoThreadError, start_daemon

    never = threading.Event()

    def end() -> None:
        never.wait(within_s)
        os._exit(code)

    with contextlib.suppress(NoThreadError):
        start_daemon(end, "elrun-end")
