"""Reads files that stand where a worker can put anything: none of them can hold the agent up.

A worker may leave a pipe, a device, a directory or ten gigabytes of zeros where its error file is
expected, and may exchange one for the other at any moment. So only a regular file is opened, in a
way that never waits, and only its beginning or its end is read. The file system itself may hang:
reading is done by a thread that the agent waits for no longer than a few seconds in all.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
import time

from ...rendezvous.logs import Log
from ...rendezvous.named_tuple import NamedTuple
from ...rendezvous.threads import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeVar

    _T = TypeVar("_T")

log = Log(__name__)

PATIENCE_S = 5.0
"""How long one reader waits for file systems, all its files together."""

DELAY_S = 0.5
"""How long a file system may hold up what is more urgent than its answer."""


class LeftFile(NamedTuple):
    """What stands at a path.

    Args:
        text: The part of it that was asked for; empty where it can't be read.
        is_whole: Whether that is all of it.
        problem: Why it can't be read, as the rest of a sentence about it; empty also where there
            is no file at all.
        modified_ns: When it was written last, in nanoseconds since the epoch; 0: not known.
    """

    text: bytes = b""
    is_whole: bool = True
    problem: str = ""
    modified_ns: int = 0


class Reading(NamedTuple):
    """How a file is to be read.

    Args:
        path: The file.
        limit: How many bytes are wanted.
        is_taken: Whether it is read as by ``take_end``; else as by ``read_beginning``.
    """

    path: str
    limit: int
    is_taken: bool = False


class LeftFileReader:
    """Reads what the workers of one attempt left.

    Args:
        patience_s: How long file systems may keep the caller waiting, all calls together.
        on_delay: Called, by the caller's thread, when a call takes longer than ``DELAY_S``; then
            the wait goes on. What it asks meanwhile has no answer.
    """

    def __init__(
        self, patience_s: float = PATIENCE_S, on_delay: Callable[[], object] = lambda: None
    ) -> None:
        self._patience_s = patience_s
        self._on_delay = on_delay
        self._is_delayed = False
        self._ahead: dict[Reading, LeftFile] = {}

    def read_ahead(self, chains: Iterable[Sequence[Reading]]) -> list[int | None]:
        """Read in one call what is asked for next: a call for each file would take a thread each.

        A reading is kept until it is asked for, once; one that does not come in time is not kept.

        Args:
            chains: Readings of which each is wanted only if those before it have no text.

        Returns:
            When the first file of each chain was written, in nanoseconds since the epoch; 0: there
            is none. None: it was not read in time.
        """
        wanted = list(chains)
        found: dict[Reading, LeftFile] = {}

        def read() -> bool:
            for chain in wanted:
                for reading in chain:
                    found[reading] = file = _read_as(reading)
                    if file.text:
                        break
            return True

        self._call(read)
        self._ahead = dict(found)
        firsts = [found.get(chain[0]) for chain in wanted]
        return [None if file is None else file.modified_ns for file in firsts]

    def read_beginning(self, path: str, limit: int) -> LeftFile:
        """Return the first bytes of a file.

        Args:
            path: The file; "" is none.
            limit: How many bytes are wanted.
        """
        file = self._ahead.pop(Reading(path, limit), None)
        return self._read(path, limit, from_end=False) if file is None else file

    def read_end(self, path: str, limit: int) -> LeftFile:
        """Return the last bytes of a file; see ``read_beginning``."""
        return self._read(path, limit, from_end=True)

    def take_end(self, path: str, limit: int) -> LeftFile:
        """Return the last bytes of a file, or remove the file where it has none."""
        if file := self._ahead.pop(Reading(path, limit, is_taken=True), None):
            return file
        found = self._call(lambda: _taken(path, limit))
        return found or LeftFile(problem="is on a file system that does not answer")

    def remove(self, paths: Iterable[str]) -> None:
        """Remove files that were read and that nobody needs any more."""
        unneeded = list(paths)
        self._call(lambda: _remove(unneeded))

    def written_ns(self, paths: Iterable[str], at_most_s: float = math.inf) -> list[int]:
        """Return when each file was written last, in nanoseconds since the epoch; 0: there is none.

        Args:
            paths: The files; "" is none.
            at_most_s: How long this one call may take; without an answer there is none.
        """
        wanted = list(paths)
        if not any(wanted):
            return [0] * len(wanted)
        found = self._call(lambda: [_written_ns(path) for path in wanted], at_most_s)
        return [0] * len(wanted) if found is None else found

    def say_something(self, paths: Iterable[str]) -> list[bool]:
        """Return which files are worth a look: they are not empty, or not known to be.

        Args:
            paths: The files; "" is none.
        """
        wanted = list(paths)
        found = self._call(lambda: [_says_something(path) for path in wanted])
        return [bool(path) for path in wanted] if found is None else found

    def _read(self, path: str, limit: int, *, from_end: bool) -> LeftFile:
        if not path:
            return LeftFile()
        found = self._call(lambda: _read_regular(path, limit, from_end=from_end))
        return found or LeftFile(problem="is on a file system that does not answer")

    def _call(self, question: Callable[[], _T], at_most_s: float = math.inf) -> _T | None:
        """Return the answer; None if it does not come in the time that is left."""
        if self._patience_s <= 0 or self._is_delayed:
            return None
        begun_at = time.monotonic()
        call = Call(question, "elrun-left-files", or_here=True)
        is_last = self._patience_s <= at_most_s
        limit_s = min(self._patience_s, at_most_s)
        is_answered = call.wait(min(limit_s, DELAY_S))
        if not is_answered and limit_s > DELAY_S:
            self._is_delayed = True
            self._on_delay()
            self._is_delayed = False
            is_answered = call.wait(begun_at + limit_s - time.monotonic())
        self._patience_s -= time.monotonic() - begun_at
        if not is_answered and is_last:
            self._patience_s = 0.0
            log.warning("a file that a worker left can't be read: its file system does not answer")
        return call.result() if is_answered else None


def _read_regular(path: str, limit: int, *, from_end: bool) -> LeftFile:
    try:
        fd = _open_regular(path)
        if fd is None:
            return LeftFile(problem="is no regular file")
        try:
            status = os.fstat(fd)
            start = max(0, status.st_size - limit) if from_end else 0
            text = _read_at_most(fd, start, limit + 1)
        finally:
            os.close(fd)
    except FileNotFoundError:
        return LeftFile()
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        return LeftFile(problem=f"can't be read ({getattr(error, 'strerror', None) or error})")
    return LeftFile(text[:limit], start == 0 and len(text) <= limit, modified_ns=status.st_mtime_ns)


def _read_as(reading: Reading) -> LeftFile:
    path, limit, is_taken = reading
    return _taken(path, limit) if is_taken else _read_regular(path, limit, from_end=False)


def _taken(path: str, limit: int) -> LeftFile:
    file = _read_regular(path, limit, from_end=True)
    if file.modified_ns and not file.text:
        with contextlib.suppress(OSError):
            os.unlink(path)
    return file


def _remove(paths: Iterable[str]) -> bool:
    for path in paths:
        with contextlib.suppress(OSError):
            os.unlink(path)
    return True


def _open_regular(path: str) -> int | None:
    """Open a file for reading; return None for anything else than a regular file."""
    # Looked at first, since to open a device may be to use it.
    if not stat.S_ISREG(os.stat(path).st_mode):
        return None
    # It may have become something else since. O_NONBLOCK waits for no writer of a pipe, and for no
    # holder of a lease; there are files under /proc and /sys that it keeps from waiting, too.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


def _read_at_most(fd: int, start: int, limit: int) -> bytes:
    chunks = []
    while limit > 0 and (chunk := os.pread(fd, limit, start)):
        chunks.append(chunk)
        start += len(chunk)
        limit -= len(chunk)
    return b"".join(chunks)


def _written_ns(path: str) -> int:
    with contextlib.suppress(OSError, ValueError):  # there is none
        status = os.stat(path) if path else None
        if status is not None and stat.S_ISREG(status.st_mode):
            return status.st_mtime_ns
    return 0


def _says_something(path: str) -> bool:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # there is none
        return False
    return not stat.S_ISREG(status.st_mode) or status.st_size > 0
