"""What workers report of their imports, so that the next attempt's need not import it anew.

Each worker watches its own imports (``hook/learn.py``) and writes a record to a pipe of the agent's
when one that took long has ended. A module is learnt once all workers of this node have reported it
alike: the same file, found with the same changes of the environment.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Collection, Mapping
from typing import NamedTuple

from ..system.pidfd import close_all

LEARN_VARIABLE = "ELRUN_LEARN"

_PROGRAM = os.path.join(os.path.dirname(__file__), "hook", "learn.py")
_LENGTH_DIGITS = 4
_ASKS = "!"
_READ_BYTES = 1 << 16
_FIELDS = 3
_OF_HOOK = ("PYTHONPATH", "ELRUN_WORKER")


class Learnt(NamedTuple):
    """A module that all workers have imported alike.

    Args:
        changes: What the script had changed in the environment by then, as NAME=VALUE, or NAME
            where it had removed the variable.
    """

    name: str
    origin: str
    changes: tuple[str, ...]


class Lessons:
    """The reports of workers, attempt after attempt.

    Args:
        workers: How many workers this node has.

    Raises:
        OSError: There can be no more descriptors.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._data = b""
        self._reports: dict[Learnt, dict[int, float]] = {}
        self._taken: set[Learnt] = set()
        self._is_over = False
        self.asking: set[str] = set()
        """Modules that ask, while they are imported, for what differs from worker to worker."""

    def settings(self, environment: Mapping[str, str], shared: Mapping[str, str]) -> str:
        """Return what ``hook/learn.py`` is loaded by, and told; nothing, if no more is learnt.

        Args:
            environment: A worker's environment.
            shared: What is in the environment of each of them.
        """
        if self._is_over:
            return ""
        differing = [
            name
            for name, value in environment.items()
            if shared.get(name) != value and name not in _OF_HOOK
        ]
        inode = os.fstat(self._write_fd).st_ino
        told = [str(os.getpid()), str(self._write_fd), str(inode), *differing]
        return "\n".join([_PROGRAM, *told])

    def filenos(self) -> list[int]:
        """Return what becomes readable when a worker has reported something."""
        return [] if self._is_over else [self._read_fd]

    def forget_reporters(self) -> None:
        """Take note that other workers report from now on."""
        self._read()
        self._reports.clear()

    def take(self, pids: Collection[int]) -> dict[Learnt, float]:
        """Return, once, what has been learnt, and how many seconds it took the quickest worker.

        Args:
            pids: Process ids of the attempt's workers.
        """
        self._read()
        learnt = {
            each: min(reports.values())
            for each, reports in self._reports.items()
            if len(reports.keys() & set(pids)) == self._workers
        }
        for each in learnt:
            del self._reports[each]
        new = {each: took_s for each, took_s in learnt.items() if each not in self._taken}
        self._taken.update(new)
        return new

    def close(self) -> None:
        """Learn nothing more; the workers' pipe breaks."""
        self._is_over = True
        read_fd, self._read_fd = self._read_fd, -1
        write_fd, self._write_fd = self._write_fd, -1
        close_all(fd for fd in (read_fd, write_fd) if fd >= 0)

    def _read(self) -> None:
        if self._is_over:
            return
        with contextlib.suppress(BlockingIOError):
            self._data += os.read(self._read_fd, _READ_BYTES)
        try:
            while record := self._next_record():
                self._take_note(record)
        except ValueError:  # a worker writes there what it likes
            self._is_over = True

    def _next_record(self) -> list[str] | None:
        if len(self._data) < _LENGTH_DIGITS:
            return None
        end = _LENGTH_DIGITS + int(self._data[:_LENGTH_DIGITS])
        if len(self._data) < end:
            return None
        record, self._data = self._data[_LENGTH_DIGITS:end], self._data[end:]
        return os.fsdecode(record).split("\0")

    def _take_note(self, record: list[str]) -> None:
        if len(record) < _FIELDS:
            raise ValueError("a record lacks its module")
        pid, name, origin, *rest = record
        if origin == _ASKS:
            self.asking.add(name)
        else:
            took_s, *changes = rest
            seconds = float(took_s)
            if not math.isfinite(seconds):
                raise ValueError(f"{took_s!r} is no time")
            self._reports.setdefault(Learnt(name, origin, tuple(changes)), {})[int(pid)] = seconds
