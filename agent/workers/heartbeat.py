"""Lets a worker say that it goes on: the one function that ``--hang-timeout`` offers to scripts.

The agent and its workers share one byte of memory. A beat sets it, and the agent clears it when it
looks. So a beat makes no system call, and may come from any thread, or from a child process.
"""

from __future__ import annotations

import os

VARIABLE = "ELRUN_HEARTBEATS"
"""Names the shared memory, as a path; not set where nobody looks."""


class _Pulse:
    """Where this process leaves its beats, found at the first one."""

    __slots__ = ("_cell",)

    def __init__(self) -> None:
        self._cell: object = None

    def beat(self) -> None:
        """Say that this worker goes on; does nothing where elrun doesn't look for that.

        Under ``elrun --hang-timeout S``, the job counts as hung when no rank has said so for S
        seconds, from the first call on; before that, output and CPU time count. Call it once a
        step: it takes a tenth of a microsecond.
        """
        try:
            self._cell[0] = 1  # type: ignore[index]
        except TypeError:
            self._cell = _open(os.environ.get(VARIABLE))
            self._cell[0] = 1


def _open(path: str | None) -> bytearray:
    if not path:
        return bytearray(1)
    import mmap  # only where somebody looks

    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            return mmap.mmap(fd, 1)  # type: ignore[return-value]  # it takes an index, too
        finally:
            os.close(fd)
    except (OSError, ValueError):  # its agent has gone, or can't be reached from here
        return bytearray(1)


heartbeat = _Pulse().beat
