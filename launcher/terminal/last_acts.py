# ruff: noqa: SLF001  what the interpreter does at its end has no public names
"""Ends elrun's process: what plug-ins and tools have registered is done, for a bounded time.

All of elrun's own is closed and flushed by then. The interpreter is not taken down: a thread may
still block inside torch's store for an answer that nobody wants any more, and that would abort the
process.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

LAST_ACTS_S = 5.0
"""How long exit functions, and threads that the interpreter would wait for, may take together."""


def end_process(code: int, within_s: float = LAST_ACTS_S) -> NoReturn:
    """Call the exit functions (coverage's, a plug-in's), and end this process.

    Args:
        code: Its exit code.
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
    import threading  # noqa: PLC0415  in use already, if there is anything to do

    from ...rendezvous.threads import NoThreadError, start_thread  # noqa: PLC0415

    never = threading.Event()

    def end() -> None:
        never.wait(within_s)
        os._exit(code)

    with contextlib.suppress(NoThreadError):
        start_thread(threading.Thread(target=end, name="elrun-end", daemon=True))
