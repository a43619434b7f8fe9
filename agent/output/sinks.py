"""Takes output to a file or a console, whose faults cost what they lose and stop nothing."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from ...rendezvous.logs import Log
from .steps import Steps

log = Log(__name__)

_READ_BYTES = 64 * 1024

LOST = "what workers print there is lost while this lasts"
SHOWN = "what workers print is missing there while this lasts, but the console shows it"


class Faults:
    """Warns of faults: of each kind once a file system, however many files are on it."""

    def __init__(self) -> None:
        self._told: set[tuple[int | None, int | None, str]] = set()

    def tell(
        self, name: str, device: int | None, error: OSError, fate: str = LOST, after_bytes: int = 0
    ) -> None:
        """Warn that something can't be written.

        Args:
            name: What can't be written, for people.
            device: The device that its file system is on, None where unknown.
            fate: What becomes of the output: ``LOST`` or ``SHOWN``.
            after_bytes: How much of the output was written before.
        """
        kind = (device, error.errno, fate)
        if kind in self._told:
            return
        self._told.add(kind)
        log.warning(
            "cannot write %s%s: %s; %s, and the job goes on",
            name,
            f" after its first {after_bytes} bytes" if after_bytes else "",
            error.strerror or error,
            fate,
        )


class Sink:
    """Writes to an open file descriptor and never raises.

    After a fault it drops what it gets for a while, then tries again: a disk that somebody cleans
    up is written to again. One whose reader is gone (``elrun … | head``) drops everything.

    Args:
        fd: Where to write; stays its owner's.
        name: What it is, for people.
        retry_s: How long it waits after a fault before it tries again.
    """

    def __init__(self, fd: int, name: str, faults: Faults, retry_s: float) -> None:
        self.fd = fd
        self.name = name
        self._faults = faults
        self._retry_s = retry_s
        self._retry_at: float | None = None
        self._has_reader = True
        self._device: int | None = None
        self._steps = Steps(fd)
        self.is_file = False
        self.is_complete = True
        self.has_lost = False
        """Whether it takes nothing at present, or did not take all of what came last."""
        self.written_bytes = 0
        self.fate = LOST
        """What becomes of the output where it can't be written, for people."""
        try:
            status = os.fstat(fd)
            self._device, self.is_file = status.st_dev, stat.S_ISREG(status.st_mode)
        except OSError:
            self._has_reader = False  # closed before we came: `elrun … >&-`

    def write(self, data: bytes | memoryview) -> None:
        """Write all of the data, or drop what can't be written."""
        rest = memoryview(data)
        if self._has_reader and (self._retry_at is None or self._is_time_to_retry()):
            rest = self._write_what_it_takes(rest)
        self.has_lost = bool(rest)
        if rest:
            self.is_complete = False

    def step_bytes(self) -> int:
        """Return how much one call may write now, so that no other writer comes in between."""
        return self._steps.most()

    def _is_time_to_retry(self) -> bool:
        if self._retry_at is not None and time.monotonic() >= self._retry_at:
            self._retry_at = None
        return self._retry_at is None

    def _write_what_it_takes(self, rest: memoryview) -> memoryview:
        while rest:
            try:
                count = os.write(self.fd, rest)
            except BlockingIOError:
                _wait_until_writable(self.fd)
            except BrokenPipeError:
                self._has_reader = False
                break
            except OSError as error:
                self._retry_at = time.monotonic() + self._retry_s
                after_bytes = self.written_bytes if self.is_file else 0
                self._faults.tell(self.name, self._device, error, self.fate, after_bytes)
                break
            else:
                rest = rest[count:]
                if self.is_complete:
                    self.written_bytes += count
        return rest


Watched = Callable[[str], AbstractContextManager[None]]


def _unwatched(_: str) -> AbstractContextManager[None]:
    return contextlib.nullcontext()


class LogFile(Sink):
    """A file that takes the bytes of one stream, and can be asked for them again.

    Args:
        path: Where; the file is emptied, or made.
        retry_s: How long it waits after a fault before it tries again.
        watched: Returns a context for a call that may hang, by the name of the file.

    Raises:
        OSError: The file can't be opened.
    """

    def __init__(
        self, path: str, faults: Faults, retry_s: float, watched: Watched = _unwatched
    ) -> None:
        # Appending, so that a person may empty a file that grows too long.
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        self._watched = watched
        with self._watched(repr(path)):
            fd = os.open(path, flags, 0o666)
        super().__init__(fd, repr(path), faults, retry_s)

    def write(self, data: bytes | memoryview) -> None:
        """Write all of the data, or drop what can't be written."""
        with self._watched(self.name):
            super().write(data)

    @property
    def has_all(self) -> bool:
        """Whether the whole stream so far can be read back."""
        return self.is_file and self.is_complete

    def read_back(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the stream from one position to another, as far as the file has it."""
        stop = min(stop, self.written_bytes)
        while start < stop:
            try:
                piece = os.pread(self.fd, min(_READ_BYTES, stop - start), start)
            except OSError as error:
                log.warning("cannot read %s: %s", self.name, error.strerror or error)
                return
            if not piece:
                return
            start += len(piece)
            yield piece

    def close(self) -> None:
        """Close the file; some file systems tell only now that they are full."""
        try:
            with self._watched(self.name):
                os.close(self.fd)
        except OSError as error:
            self._faults.tell(self.name, self._device, error, self.fate)


def open_log_file(
    path: str,
    faults: Faults,
    retry_s: float,
    watched: Watched = _unwatched,
    *,
    fate: str = LOST,
) -> LogFile | None:
    """Open a log file; where it can't be opened, tell so and return None.

    Args:
        fate: What becomes of the output then, and while the file can't be written.
    """
    try:
        file = LogFile(path, faults, retry_s, watched)
    except OSError as error:
        device = None
        with contextlib.suppress(OSError):
            device = os.stat(os.path.dirname(path)).st_dev
        faults.tell(repr(path), device, error, fate)
        return None
    file.fate = fate
    return file


def _wait_until_writable(fd: int) -> None:
    writable = select.poll()
    writable.register(fd, select.POLLOUT)
    writable.poll()
