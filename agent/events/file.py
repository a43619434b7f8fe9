"""A file that takes a line for each event, and makes room for itself by rotation."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import stat

from ..system.whole_writes import write_all

MAX_BYTES = 16 << 20
OLDER_FILES = 4


class EventFile(logging.Handler):
    """Appends each record to a file as a line.

    A file that is full becomes ``<path>.1``, an older one ``<path>.2``, and so on; the oldest goes.
    Agents of one host may share a file, and something else may rotate it, too.

    Args:
        path: The file; where it is a directory, or ends with a slash, ``events_<host>_<pid>.jsonl``
            in it. Its folder is made at the first line, where only that is missing.
        max_bytes: How long a file may become; a line that is longer has a file of its own.
        older_files: How many full files are kept, at least 1.
    """

    def __init__(
        self, path: str = "", max_bytes: int = MAX_BYTES, older_files: int = OLDER_FILES
    ) -> None:
        super().__init__()
        whole = os.path.abspath(path)
        if path.endswith("/") or os.path.isdir(whole):
            whole = os.path.join(whole, f"events_{os.uname().nodename}_{os.getpid()}.jsonl")
        self.path = whole
        self._max_bytes = max_bytes
        self._older_files = older_files
        self._fd = -1

    def emit(self, record: logging.LogRecord) -> None:
        """Append the record's message."""
        try:
            self._append(self.format(record).encode(errors="backslashreplace") + b"\n")
        except OSError:
            self.handleError(record)

    def close(self) -> None:
        """Close the file; the next record opens it again."""
        self._let_go()
        super().close()

    def _append(self, line: bytes) -> None:
        self._open(len(line))
        # The rest of a line that a full disk cut off is lost; the next one stands for itself.
        write_all(self._fd, line if self._ends_with_a_line() else b"\n" + line)

    def _open(self, room: int) -> None:
        """Have the file open, with so many bytes of room."""
        while True:
            if self._fd >= 0 and not self._is_in_place():  # somebody else has rotated it
                self._let_go()
            if self._fd < 0:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(os.path.dirname(self.path))
                flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
                self._fd = os.open(self.path, flags, 0o666)
            status = os.fstat(self._fd)
            is_full = status.st_size > 0 and status.st_size + room > self._max_bytes
            if not is_full or not stat.S_ISREG(status.st_mode):  # a device must never be moved
                return
            self._rotate()

    def _rotate(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)  # one of those that share the file does it
        if self._is_in_place():
            names = [self.path, *(f"{self.path}.{n + 1}" for n in range(self._older_files))]
            for newer, older in reversed(list(itertools.pairwise(names))):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(newer, older)
        self._let_go()

    def _ends_with_a_line(self) -> bool:
        size = os.fstat(self._fd).st_size
        return size == 0 or os.pread(self._fd, 1, size - 1) == b"\n"

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _let_go(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
