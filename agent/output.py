"""Carries what workers print to their log files and to the console.

A stream that goes anywhere but straight to the agent's own console runs through a pipe, and one
thread empties all pipes. So a full disk or a slow console never reaches a worker as an error, and
never holds up the agent's loop; and since one thread writes, in whole lines, the lines of two
workers don't mix. A file gets a worker's bytes exactly. The console gets lines as soon as they are
whole; `lines` says what a line is. One that is too long to be held waits in its log file, which has
it anyway, and is copied to the console when it ends; where there is no log file, it is broken.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import threading
from collections.abc import Iterable, Sequence

from .lines import LineCutter, LongLine, holds_any, matching, prefixed
from .logs import LogsDest, Std, route_of
from .sinks import Faults, LogFile, Sink, open_log_file

log = logging.getLogger(__name__)

# A pipe is smaller than what one read asks for. Were they the same, malloc would give each chunk's
# memory back to the kernel and fetch it again, which costs three times all the rest.
_CHUNK_BYTES = 1024 * 1024
_PIPE_BYTES = 256 * 1024

# A worker that prints without a buffer (`python -u`) wakes the pump at each write. After a look
# that found little, the pump leaves the pipes alone for a moment: then it costs a tenth, and the
# first line after a silence is still shown at once.
_LITTLE_BYTES = 32 * 1024
_REST_S = 0.002

_LAST_LOOK_S = 1.0
_RETRY_S = 10.0


class OutputPump:
    """The pipes of one attempt's workers, and the thread that empties them.

    Args:
        dest: Where each stream goes; `logs.route_of` says how it is read.
        nprocs: Number of workers.
        prefixes: What stands before each line of a worker, by local rank; else ``[<name><rank>]:``.
        name: What the workers are called: their role.
        stdout_filters: Words; lines of standard output with any of them go to
            ``dest.filtered_stdout`` as well. For that, every worker's standard output is carried.
        stderr_filters: The same for standard error.
        console_fds: The agent's standard output and standard error.
        retry_s: How long a file that could not be written is left alone before it is tried again.

    Raises:
        OSError: A pipe can't be made. (A log file that can't be opened is a warning.)
    """

    def __init__(
        self,
        dest: LogsDest,
        nprocs: int,
        prefixes: dict[int, str] | None,
        name: str,
        stdout_filters: Sequence[str] | None,
        stderr_filters: Sequence[str] | None,
        *,
        console_fds: tuple[int, int] = (1, 2),
        retry_s: float = _RETRY_S,
    ) -> None:
        self._faults = Faults()
        self._retry_s = retry_s
        self._carried: dict[int, _Carried] = {}
        self._files: list[LogFile] = []
        self._workers_ends: dict[tuple[Std, int], int] = {}
        self._stop_fd = -1
        self._thread: threading.Thread | None = None
        self._is_started = False
        self._is_drained = False
        given = prefixes or {}
        marks = [_encoded(given.get(rank, f"[{name}{rank}]:")) for rank in range(nprocs)]
        out, err = console_fds
        try:
            self._open(Std.OUT, dest, marks, stdout_filters, self._console(out, "standard output"))
            self._open(Std.ERR, dest, marks, stderr_filters, self._console(err, "standard error"))
        except BaseException:
            self._close_workers_ends()
            self._close()
            raise

    def stdout_fd(self, local_rank: int) -> int | None:
        """Return what a worker's fd 1 must become, None where it inherits the agent's."""
        return self._workers_ends.get((Std.OUT, local_rank))

    def stderr_fd(self, local_rank: int) -> int | None:
        """Return what a worker's fd 2 must become, None where it inherits the agent's."""
        return self._workers_ends.get((Std.ERR, local_rank))

    def start(self) -> None:
        """Begin to carry; called once, when all workers have their ends of the pipes."""
        self._is_started = True
        self._close_workers_ends()
        if not self._carried:
            self._close()
            return
        self._stop_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        thread = threading.Thread(target=self._carry, name="elrun-output", daemon=True)
        thread.start()
        self._thread = thread

    def drain(self, timeout_s: float) -> None:
        """Carry what is still in the pipes, then close everything.

        Called when all workers and their children have ended; then the pipes end, too. A process
        that got away may hold one open: what there is by the end of the time is carried, no more.

        Args:
            timeout_s: How long to wait for the pipes to end.
        """
        if self._is_drained:
            return
        self._is_drained = True
        if not self._is_started:
            self.start()
        if self._thread is None:
            self._close()
            return
        self._thread.join(max(0.0, timeout_s))
        if self._thread.is_alive():
            os.eventfd_write(self._stop_fd, 1)
            self._thread.join(_LAST_LOOK_S)
        if self._thread.is_alive():
            log.warning("the console takes no output: what workers printed last is not shown")
        else:
            os.close(self._stop_fd)

    def _console(self, fd: int, name: str) -> Sink:
        return Sink(fd, name, self._faults, self._retry_s)

    def _open(
        self,
        std: Std,
        dest: LogsDest,
        marks: Sequence[bytes],
        filters: Sequence[str] | None,
        console: Sink,
    ) -> None:
        words = [_encoded(word) for word in filters or ()]
        name = "filtered_stdout" if std is Std.OUT else "filtered_stderr"
        # A plug-in's destination may be torch's own class, which has no such files in torch 2.9.
        filtered = self._open_file(getattr(dest, name, "")) if words else None
        for local_rank, mark in enumerate(marks):
            route = route_of(dest, std, local_rank, filtered=bool(words))
            if route is None:
                continue
            key = (std, local_rank)
            if not (route.path or route.on_console or words):
                self._workers_ends[key] = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
                continue
            fd, self._workers_ends[key] = os.pipe2(os.O_CLOEXEC)
            self._carried[fd] = _Carried(
                file=self._open_file(route.path),
                console=console if route.on_console else None,
                console_prefix=mark if route.has_prefix else b"",
                filtered=filtered,
                filtered_prefix=mark,
                words=words,
            )
            os.set_blocking(fd, False)
            with contextlib.suppress(OSError):  # the user's share of pipe memory is used up
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def _open_file(self, path: str) -> LogFile | None:
        if not path or path == os.devnull:
            return None
        file = open_log_file(path, self._faults, self._retry_s)
        if file is not None:
            self._files.append(file)
        return file

    def _carry(self) -> None:
        try:
            self._carry_until_all_end()
            self._carry_what_is_left()
        finally:
            self._close()

    def _carry_until_all_end(self) -> None:
        # No epoll: it would go on about a pipe that was closed here, but is still held by a process
        # that the agent forked.
        stop, ready = select.poll(), select.poll()
        stop.register(self._stop_fd, select.POLLIN)
        for fd in (self._stop_fd, *self._carried):
            ready.register(fd, select.POLLIN)
        while self._carried:
            fds = [fd for fd, _ in ready.poll()]
            if self._stop_fd in fds:
                return
            counts = [self._carry_from(fd) for fd in fds]
            for fd in fds:
                if fd not in self._carried:
                    ready.unregister(fd)
            if max(counts) < _LITTLE_BYTES:
                stop.poll(_REST_S * 1000)

    def _carry_what_is_left(self) -> None:
        have_ended = [self._carry_last_from(fd) for fd in list(self._carried)]
        if not all(have_ended):
            log.warning(
                "a process that a worker left behind holds its output open: "
                "what it prints from now on is lost"
            )

    def _carry_last_from(self, fd: int) -> bool:
        """Return whether the pipe has ended by itself."""
        with contextlib.suppress(BlockingIOError):
            # One look takes all that a pipe can hold; another tells whether it has ended.
            if self._carry_from(fd) == 0 or self._carry_from(fd) == 0:
                return True
        self._end(fd)
        return False

    def _carry_from(self, fd: int) -> int:
        chunk = os.read(fd, _CHUNK_BYTES)
        if chunk:
            self._carried[fd].take(chunk)
        else:
            self._end(fd)
        return len(chunk)

    def _end(self, fd: int) -> None:
        self._carried.pop(fd).finish()
        os.close(fd)

    def _close_workers_ends(self) -> None:
        for fd in self._workers_ends.values():
            os.close(fd)
        self._workers_ends.clear()

    def _close(self) -> None:
        for fd in self._carried:
            os.close(fd)
        self._carried.clear()
        for file in self._files:
            file.close()
        self._files.clear()


class _Carried:
    """One stream of one worker, and where its bytes and its lines go."""

    def __init__(
        self,
        *,
        file: LogFile | None,
        console: Sink | None,
        console_prefix: bytes,
        filtered: Sink | None,
        filtered_prefix: bytes,
        words: Sequence[bytes],
    ) -> None:
        self._file = file
        self._console = console
        self._console_prefix = console_prefix
        self._filtered = filtered
        self._filtered_prefix = filtered_prefix
        self._words = words
        self._cutter = LineCutter()

    def take(self, chunk: bytes) -> None:
        """Pass on the next bytes."""
        if self._file is not None:
            self._file.write(chunk)
        if self._console is not None or self._filtered is not None:
            referable = self._file is not None and self._file.has_all
            for lines in self._cutter.feed(chunk, referable=referable):
                self._show(lines)

    def finish(self) -> None:
        """Pass on the line that the end of the stream left without an end."""
        last = self._cutter.finish()
        if last is not None:
            self._show(last)

    def _show(self, lines: bytes | LongLine) -> None:
        if isinstance(lines, LongLine):
            self._show_from_file(lines)
            return
        if self._console is not None:
            self._console.write(prefixed(lines, self._console_prefix))
        if self._filtered is not None:
            self._filtered.write(matching(lines, self._words, self._filtered_prefix))

    def _show_from_file(self, line: LongLine) -> None:
        file = self._file
        if file is None:
            return  # a LongLine was asked for only because there is a file
        if self._console is not None:
            _copy(file.read_back(line.start, line.stop), self._console, self._console_prefix)
        if self._filtered is not None and holds_any(
            file.read_back(line.start, line.stop), self._words
        ):
            _copy(file.read_back(line.start, line.stop), self._filtered, self._filtered_prefix)


def _copy(pieces: Iterable[bytes], sink: Sink, prefix: bytes) -> None:
    sink.write(prefix)
    piece = b""
    for piece in pieces:
        sink.write(piece)
    if not piece.endswith(b"\n"):
        sink.write(b"\n")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
