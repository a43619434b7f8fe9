"""Removes empty folders of workers that have succeeded while others run, if there are many.

The job's end removes all temporary folders, one after the other. A file system may take a
millisecond for each, while no worker runs any more and somebody waits for the job's end.
"""

from __future__ import annotations

import contextlib
import itertools
import os

from ...rendezvous.threads import Call, NoThreadError
from ..processes.companion import Companion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..processes.companion import Trouble
    from ..processes.context import PContext

_TOGETHER = 8


class FolderSweep(Companion):
    """Has a thread remove folders, those of eight or more workers at once.

    Args:
        temporary_dir: Returns the temporary folder that they are in; "": there is none.

    Attributes:
        call: The latest removal.
    """

    def __init__(self, temporary_dir: Callable[[], str]) -> None:
        self._temporary_dir = temporary_dir
        self._workers: PContext | None = None
        self._seen = 0
        self.call: Call[None] | None = None

    def begin_attempt(self, workers: PContext) -> None:
        """Take note of the workers; their folders are there."""
        self._workers = workers
        self._seen = 0

    def end_attempt(self) -> None:
        """Leave what is left to the job's end."""
        self._workers = None

    def tick(self) -> Trouble | None:
        """Have the folders removed of those that have succeeded meanwhile."""
        if self._workers is None or (self.call is not None and not self.call.is_done):
            return None
        exits = self._workers.exits
        if len(exits) - self._seen >= _TOGETHER:
            fresh = itertools.islice(exits.items(), self._seen, None)
            succeeded = [rank for rank, end in fresh if end.exitcode == 0 and not end.marked]
            self._seen = len(exits)
            self._remove([os.path.dirname(self._workers.error_file(rank)) for rank in succeeded])
        return None

    def _remove(self, folders: Sequence[str]) -> None:
        place = self._temporary_dir()
        mine = [each for each in folders if place and each.startswith(f"{place}{os.sep}")]
        if mine:
            with contextlib.suppress(NoThreadError):  # the job's end removes them
                self.call = Call(lambda: _remove_empty(mine), "elrun-folders", or_here=False)


def _remove_empty(folders: Sequence[str]) -> None:
    for each in folders:
        with contextlib.suppress(OSError):  # something is in it
            os.rmdir(each)
