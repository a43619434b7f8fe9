"""Tells whether a job was started where this command was: in its folder, or at its terminal."""

from __future__ import annotations

import os

from ...rendezvous.named_tuple import NamedTuple

_TERMINAL_FIELD = 4
"""Of ``/proc/PID/stat``, counted from the state, which follows the program's name."""


class Origin(NamedTuple):
    """Where a process was started, as far as the kernel tells.

    Args:
        folder: Its working directory; empty: not known.
        terminal: The number of its controlling terminal; 0: it has none.
    """

    folder: str = ""
    terminal: int = 0

    def is_shared_with(self, other: Origin) -> bool:
        """Return whether a person would take both for parts of the same work."""
        has_folder = bool(self.folder) and self.folder == other.folder
        return has_folder or (self.terminal != 0 and self.terminal == other.terminal)


def origin_of(pid: int) -> Origin:
    """Return where a process was started; nothing where it is not seen from here.

    Args:
        pid: Its process id.
    """
    try:
        folder = os.readlink(f"/proc/{pid}/cwd")
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return Origin(folder, int(fields[_TERMINAL_FIELD]))
    except (OSError, ValueError, IndexError):
        return Origin()
