"""Hands the output of processes that outlive the agent on to another process, which needs little.

What a worker left running on purpose may hold a pipe of the agent's. Were nobody there to empty it,
the next word that is printed there would end the process by SIGPIPE. So ``cat`` takes the agent's
place, from the pipe to the log file, and ends with the last process that holds the pipe.
"""

from __future__ import annotations

import contextlib
import os
import sys

from ...rendezvous.logs import Log
from ..system.reaping import reap_later

log = Log(__name__)

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
    for file in filter(None, (path, os.devnull)):
        with contextlib.suppress(OSError):  # it can't be opened
            target = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                if hand_on_to(pipe, target):
                    return True
            finally:
                os.close(target)
    return False


def hand_on_to(pipe: int, target: int) -> bool:
    """Let another process empty a pipe into an open file; return whether one does.

    Args:
        pipe: The reading end; stays its owner's.
        target: What takes what comes; stays its owner's.
    """
    os.set_blocking(pipe, True)
    for command in _COMMANDS:
        with contextlib.suppress(OSError):  # no such program
            reap_later({os.pidfd_open(_start(command, pipe, target))})
            return True
    return False


def _start(command: list[str], pipe: int, target: int) -> int:
    return os.posix_spawnp(
        command[0],
        command,
        {},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, pipe, 0),
            (os.POSIX_SPAWN_DUP2, target, 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ],
        setsid=True,
    )
