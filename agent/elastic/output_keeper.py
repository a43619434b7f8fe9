"""Keeps, in the folder of a run, the end of what its ranks have printed that has no log file.

The carrier of standard error has it in memory (``agent/output/carrying.py``); ``elrun logs`` shows
the file once the attempt, or the agent, is no more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from ..output.run_folders import RunFile, RunFolder
from ..output.whole_file import SETTLE_S, WholeFile
from .observer import Observer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .observer import Ends, Heard

NAME = "output.json"
VERSION = 1
MOST_ATTEMPTS = 2
"""Of so many attempts the ends are kept: of the last one, and of the one before."""

MOST_BYTES = 4 << 20
"""How much is kept of one attempt; its ranks share it."""


class _OutputFile(RunFile):
    """The file; the report's end, not this one's, lets the folder count as that of an ended run."""

    def settle(self, timeout_s: float = SETTLE_S) -> None:
        WholeFile.settle(self, timeout_s)


class OutputKeeper(Observer):
    """Writes the ends of an attempt's output once the attempt is over.

    Args:
        reader: Returns what reads, then and later, the ends of the attempt that runs.
    """

    def __init__(self, folder: RunFolder, reader: Callable[[], Callable[[], Ends]]) -> None:
        self._file = _OutputFile(folder, NAME, "the end of what the ranks have printed")
        self._reader = reader
        self._read: Callable[[], Ends] | None = None
        self._attempts: list[dict[str, Any]] = []
        self._number = -1
        self._is_past = False

    def replay(self, heard: Iterable[Heard], before: Ends) -> None:
        """Take what an agent has done so far.

        Args:
            before: The ends of the attempt before the latest one; empty if nothing is known.
        """
        self._is_past = True
        for _, _, call in heard:
            call(self)
        self._is_past = False
        self._add(self._number - 1, before)

    def workers_started(self) -> None:
        """Keep the ends of the attempt before: by now all that was printed has been read."""
        if not self._is_past:
            self._keep()
        self._number += 1
        self._read = self._reader()

    def finish(self) -> None:
        """Keep the ends of the last attempt, and wait a little until they are written."""
        self._keep()
        self._file.settle()

    def _keep(self) -> None:
        read, self._read = self._read, None
        if read is not None:
            self._add(self._number, read())

    def _add(self, number: int, printed_by: Ends) -> None:
        ends = {rank: each for rank, each in printed_by.items() if each[1]}
        if not ends:
            return
        from binascii import b2a_base64  # loads zlib, and many jobs print nothing that is kept

        most = MOST_BYTES // len(ends)
        ranks = {
            str(rank): {
                "pid": pid,
                "printed": printed,
                "end": b2a_base64(end[-most:], newline=False).decode(),
            }
            for rank, (end, printed, pid) in sorted(ends.items())
        }
        attempt = {"attempt": number, "ranks": ranks}
        self._attempts = [*self._attempts, attempt][-MOST_ATTEMPTS:]
        text = json.dumps({"version": VERSION, "attempts": self._attempts})
        self._file.write(text.encode() + b"\n")
