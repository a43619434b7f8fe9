"""What workers leave running when they end, in words; and what becomes of it after a success.

A program that succeeds may leave something behind on purpose: an upload in a session of its own, a
``nohup … &``, a daemon. Under torchrun that lives on, and so it does here. Only what ends by itself
isn't worth a word: what does so within a moment, and ``multiprocessing``'s own helpers, which end
with the last process that needs them, but on a busy machine may still be starting by then.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence

from ...rendezvous.logs import Log
from ..system.left_files import LeftFileReader
from ..system.pidfd import close_all, hold_processes, wait_readable
from ..system.process_tree import MARK_VARIABLE, Process
from ..system.reaping import reap_later

log = Log(__name__)

MOMENT_S = 0.5
"""How long what is left may take to end by itself before it is named."""

_MAX_NAMED = 8
_MAX_COMMAND = 80
_MAX_FILE_BYTES = 1 << 17
_READ_S = 0.5
_TRACKER = b"from multiprocessing.resource_tracker import "
_FORK_SERVER = b"from multiprocessing.forkserver import "


class ProcessNames:
    """Says which processes are meant: their ids, their commands, and the ranks they come from.

    Args:
        ranks: The workers' global ranks by process id.
        mark: The agent's mark, which is in the environment of what its workers executed.
    """

    def __init__(self, ranks: Mapping[int, str], mark: str) -> None:
        self._ranks = ranks
        self._mark = mark
        self._said: dict[tuple[int, int], str] = {}

    def note(self, processes: Iterable[Process]) -> None:
        """Find out what processes are called, as long as they are there."""
        reader = LeftFileReader(
            _READ_S
        )  # the kernel may hold a process, and any reader of its files
        for process in list(processes)[:_MAX_NAMED]:
            self._said[process.key] = self._describe(process, reader)

    def helpers_among(self, processes: Iterable[Process]) -> set[int]:
        """Return the ids of those processes that serve ``multiprocessing``."""
        reader = LeftFileReader(_READ_S)
        # What a fork server has forked bears its command; a daemon has a session of its own.
        sessions = {*self._ranks, os.getsid(0)}
        return {
            each.pid
            for each in processes
            if _TRACKER in (line := _command_line(each, reader))
            or (_FORK_SERVER in line and _session_of(each) in sessions)
        }

    def describe(self, processes: Sequence[Process]) -> str:
        """Return what is known about processes, the first few of them by name."""
        named = [self._said.get(each.key, f"pid {each.pid}") for each in processes[:_MAX_NAMED]]
        more = len(processes) - _MAX_NAMED
        return ", ".join(named) + (f" and {more} more" if more > 0 else "")

    def _describe(self, process: Process, reader: LeftFileReader) -> str:
        line = reader.read_beginning(f"/proc/{process.pid}/cmdline", _MAX_COMMAND).text
        command = " ".join(line.rstrip(b"\0").decode(errors="replace").split("\0"))
        name = f"pid {process.pid} ({command})" if command else f"pid {process.pid}"
        if process.pid in self._ranks:
            return f"rank {self._ranks[process.pid]}: {name}"
        rank = self._ranks.get(process.session) or self._rank_in_environment(process, reader)
        return f"{name} of rank {rank}" if rank else name

    def _rank_in_environment(self, process: Process, reader: LeftFileReader) -> str:
        text = reader.read_beginning(f"/proc/{process.pid}/environ", _MAX_FILE_BYTES).text
        found = dict(entry.partition(b"=")[::2] for entry in text.split(b"\0"))
        if not found.get(MARK_VARIABLE.encode(), b"").endswith(self._mark.encode()):
            return ""  # a launcher in a worker has given it another rank
        return found.get(b"RANK", b"").decode(errors="replace")


def _session_of(process: Process) -> int:
    """Return the session that a process is in now; it may have changed since it was found."""
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return process.session


def _command_line(process: Process, reader: LeftFileReader) -> bytes:
    return reader.read_beginning(f"/proc/{process.pid}/cmdline", _MAX_FILE_BYTES).text


def let_live(processes: Iterable[Process], names: ProcessNames) -> None:
    """Leave processes alone, and name them."""
    held = hold_processes(processes)
    pending, _ = wait_readable(held, time.monotonic() + MOMENT_S)
    close_all(held.keys() - pending)
    living = {held[fd].pid: held[fd] for fd in pending}
    roots = [each for each in living.values() if each.parent not in living]
    helpers = names.helpers_among(roots)
    roots = [each for each in roots if each.pid not in helpers]
    names.note(roots)
    for root in roots[:_MAX_NAMED]:
        log.warning("left running, as all workers have succeeded: %s", names.describe([root]))
    if roots[_MAX_NAMED:]:
        log.warning("left running, too: %d more processes", len(roots) - _MAX_NAMED)
    reap_later(pending)
