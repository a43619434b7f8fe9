"""What workers tell the benchmark: a pipe in which each writes a line when something happens."""

import os
import select
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rows import FailedError


class Note(NamedTuple):
    """Something that happened to a worker; see scripts/note.py.

    Args:
        event: What it was.
        node: Number of the agent, in the order of their starts.
        attempt: How many restarts there had been.
        world_size: Of the worker's round.
        pid: The worker's.
        at_s: When, by the monotonic clock.
    """

    event: str
    node: int
    attempt: int
    world_size: int
    pid: int
    at_s: float


class Notes:
    """All notes of a job, oldest first.

    Args:
        path: Where the pipe is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._taken: list[Note] = []
        self._rest = b""
        os.mkfifo(path)
        # Open at both ends: it has no end when a worker has closed it.
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def close(self) -> None:
        os.close(self._pipe)

    def now(self) -> list[Note]:
        """Return what has been noted so far."""
        while select.select([self._pipe], [], [], 0)[0]:
            self._read()
        return self._taken

    def wait(self, count: int, wanted: Callable[[Note], bool], timeout_s: float) -> list[Note]:
        """Return the first so many notes of a kind, as soon as they are there.

        Raises:
            FailedError: They have not come in time.
        """
        deadline = time.monotonic() + timeout_s
        while len(found := [note for note in self._taken if wanted(note)]) < count:
            left_s = max(0.0, deadline - time.monotonic())
            if not select.select([self._pipe], [], [], left_s)[0]:
                raise FailedError(f"not in {timeout_s:g} s")
            self._read()
        return found[:count]

    def _read(self) -> None:
        *lines, self._rest = (self._rest + os.read(self._pipe, 1 << 16)).split(b"\n")
        self._taken.extend(_parsed(lines))


def _parsed(lines: Sequence[bytes]) -> Iterator[Note]:
    for line in lines:
        event, node, attempt, world_size, pid, at_s = line.decode().split()
        yield Note(event, int(node), int(attempt), int(world_size), int(pid), float(at_s))
