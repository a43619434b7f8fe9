"""Hands the output of processes that outlive the agent on to another process, which needs little.

What a worker left running on purpose may hold a pipe of the agent's. Were nobody there to empty it,
the next word that is printed there would end the process by SIGPIPE. So ``cat`` takes the agent's
place, from the pipe to the log file, and ends with the last process that holds the pipe.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys

from ..system.reaping import reap_later

log = logging.getLogger(__name__)

_CAT_IN_PYTHON = "import os\nwhile data := os.read(0, 65536): os.write(1, data)"
_COMMANDS = (
    ["cat"],
    [sys.executable, "-I", "-S", "-c", _CAT_IN_PYTHON],  # for a container without it
)


def hand_on(pipe: int, path: str) -> bool:
    """Let another process empty a pipe; return whether one does.

    Args:
        pipe: The reading end; stays its owner's.
        path: The file that takes what comes; "" for none.
    """
    os.set_blocking(pipe, True)
    for file in filter(None, (path, os.devnull)):
        for command in _COMMANDS:
            with contextlib.suppress(OSError):  # no such program, or the file can't be opened
                reap_later({os.pidfd_open(_start(command, pipe, file))})
                return True
    return False


def _start(command: list[str], pipe: int, path: str) -> int:
    append = os.O_WRONLY | os.O_APPEND
    return os.posix_spawnp(
        command[0],
        command,
        {},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, pipe, 0),
            (os.POSIX_SPAWN_OPEN, 1, path, append, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ],
        setsid=True,
    )
