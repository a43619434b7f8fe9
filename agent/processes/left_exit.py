"""Leaves why a function has ended its worker by SystemExit, as the hook does for a program.

Whoever calls a function takes the exit code of such an exception and drops the exception itself;
``multiprocessing`` then calls ``sys.exit`` with the code, which no reader wants to know of.
"""

from __future__ import annotations

import os
import runpy
from types import TracebackType

_HOOK = os.path.join(os.path.dirname(os.path.dirname(__file__)), "workers", "hook")


def leave_exit(leaving: SystemExit, trace: TracebackType | None, path: str) -> None:
    """Write the text of an exit, the exception that was handled then, or the exit's place.

    Args:
        leaving: What ends the process.
        trace: Its frames, without those below the user's function.
        path: The worker's error file. What stands there already stays; "" is nowhere.

    Raises:
        OSError: The file can't be written.
    """
    status = leaving.code
    if status is None or status == 0 or not path or os.path.lexists(path):
        return
    words = runpy.run_path(os.path.join(_HOOK, "last_words.py"))  # it is no module: see there
    handled = leaving.__cause__ or leaving.__context__
    note = words["note_of_exit"](status, handled, None, trace)
    file = runpy.run_path(os.path.join(_HOOK, "record_file.py"))
    file["write_record_in_time"](path, words["record_of_note"](note))
