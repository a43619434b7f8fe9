"""Reads timers from a named pipe, and ends processes that don't release their timers in time.

The thread sleeps until a request comes or a timer expires. A process that can write to the pipe can
ask for the end of any process. So only the user can open the pipe (mode 0600), and the server sends
signals only to descendants of its own process, by a pidfd, which never means a recycled process id.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import signal
import stat
import threading
import time
from collections.abc import Callable

from ...rendezvous.logs import Log
from ...rendezvous.threads import start_thread
from ..system.pidfd import milliseconds_until, send_signal
from ..system.process_tree import read_process
from ..system.wakeup import Wakeup
from .file_client import FileTimerRequest
from .table import RequestReader, Stuck, TimerTable

log = Log(__name__)

LAST_WORDS_S = 30.0
"""How long a process may take to end after a signal that it can handle; then it gets SIGKILL."""

_CHUNK_BYTES = 1 << 16
_CHUNKS_A_TURN = 16
_STOP_S = 5.0
_MOST_ANCESTORS = 1_000


class FileTimerServer:
    """Serves the ``FileTimerClient``s of this process's descendants.

    Args:
        file_path: The pipe; the constructor makes it, and ``stop`` removes it. A pipe that no
            process reads is replaced.
        run_id: The job's name, for the log.
        max_interval: Has no effect, since nothing is polled; torch's callers pass it.
        daemon: Whether the interpreter may end while the server runs.
        log_event: Called with the name of an event and the request that caused it.

    Raises:
        OSError: The pipe can't be made, the path is something else, or another server reads it.
    """

    def __init__(
        self,
        file_path: str,
        run_id: str,
        max_interval: float = 10,
        daemon: bool = True,
        log_event: Callable[[str, FileTimerRequest | None], None] | None = None,
    ) -> None:
        self._file_path = file_path
        self._run_id = run_id
        self._daemon = daemon
        self._log_event = log_event
        self._wake = Wakeup()
        self._reader = RequestReader()
        self._table = TimerTable()
        self._last_words: list[tuple[float, int]] = []
        self._warned: set[str] = set()
        self._thread: threading.Thread | None = None
        self._is_stopping = False
        self._pipe = _make_pipe(file_path)

    @property
    def file_path(self) -> str:
        """The path of the pipe, for the workers' environment."""
        return self._file_path

    def start(self) -> None:
        """Start to read, in a thread."""
        self._thread = start_thread(
            threading.Thread(target=self._serve, name="elrun-timers", daemon=self._daemon)
        )
        self._notify("watchdog started", None)

    def stop(self) -> None:
        """End the thread and remove the pipe."""
        if self._pipe < 0:
            return
        self._is_stopping = True
        self._wake.notify()
        if self._thread is not None:
            self._thread.join(_STOP_S)
        if self._has_vanished():
            self._warn("vanished", "timers: the pipe %s was removed", self._file_path)
        else:
            with contextlib.suppress(OSError):  # a directory that was made read-only
                os.unlink(self._file_path)
        os.close(self._pipe)
        self._pipe = -1
        self._wake.close()
        for _, pidfd in self._last_words:
            os.close(pidfd)
        self._notify("watchdog stopped", None)

    def _serve(self) -> None:
        waiting = select.poll()
        waiting.register(self._pipe, select.POLLIN)
        waiting.register(self._wake.fileno(), select.POLLIN)
        while not self._is_stopping:
            waiting.poll(milliseconds_until(self._next_deadline()))
            self._wake.clear()
            self._read_requests()
            self._kill_the_late(time.monotonic())
            if not self._is_waiting_for_workers():
                for stuck in self._table.take_expired(time.monotonic()):
                    self._end(stuck)

    def _next_deadline(self) -> float:
        late = min((deadline for deadline, _ in self._last_words), default=math.inf)
        return late if self._is_waiting_for_workers() else min(late, self._table.next_expiry)

    def _read_requests(self) -> None:
        """Read all requests, so that a release in time is seen before its timer expires."""
        for _ in range(_CHUNKS_A_TURN):
            try:
                data = os.read(self._pipe, _CHUNK_BYTES)
            except BlockingIOError:
                return
            for request in self._reader.feed(data):
                self._take(request)
            for problem in self._reader.problems:
                self._warn("request", "timers: a request can't be understood: %s", problem)

    def _take(self, request: FileTimerRequest) -> None:
        process = read_process(request.worker_pid)
        if process is None:  # it was reaped after it had written
            self._table.forget({request.worker_pid})
            return
        if not self._table.take(request, process.start, time.monotonic(), time.time()):
            self._warn(
                "full", "timers: %d are set already; others are not", len(self._table.timers)
            )

    def _end(self, stuck: Stuck) -> None:
        request = stuck.timer.request
        pidfd = _hold(stuck)
        if pidfd is None:
            return
        try:
            if not self._may_reap(stuck.pid):
                self._warn(
                    f"stranger {stuck.pid}",
                    "timers: process %d %s, says a request, but it is none of ours",
                    stuck.pid,
                    stuck.description,
                )
                return
            self._notify("timer expired", request)
            if request.signal <= 0:
                log.warning("process %d %s; no signal was asked for", stuck.pid, stuck.description)
                return
            self._reap(stuck, pidfd)
            self._notify("kill worker process", request)
            if request.signal != signal.SIGKILL:
                self._last_words.append((time.monotonic() + LAST_WORDS_S, os.dup(pidfd)))
        finally:
            os.close(pidfd)

    def _kill_the_late(self, now: float) -> None:
        for deadline, pidfd in list(self._last_words):
            if deadline <= now:
                send_signal(pidfd, signal.SIGKILL)
                os.close(pidfd)
                self._last_words.remove((deadline, pidfd))

    # The agent's watchdog overrides the next three methods.

    def _is_waiting_for_workers(self) -> bool:
        """Return whether there are no workers yet, so that no timer can be judged."""
        return False

    def _may_reap(self, pid: int) -> bool:
        """Return whether this server may end a process."""
        return descends_from(pid, {os.getpid()})

    def _reap(self, stuck: Stuck, pidfd: int) -> None:
        """Send the request's signal to a process that is stuck."""
        log.warning(
            "run %r: process %d %s: it is ended", self._run_id, stuck.pid, stuck.description
        )
        send_signal(pidfd, stuck.timer.request.signal)

    def _has_vanished(self) -> bool:
        try:
            there, ours = os.stat(self._file_path), os.fstat(self._pipe)
        except OSError:
            return True
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)

    def _restore_pipe(self) -> None:
        """If the pipe was removed, make a new one, under the descriptor that the thread reads."""
        if not self._has_vanished():
            return
        try:
            fd = _make_pipe(self._file_path)
        except OSError as error:
            self._warn(
                "vanished",
                "timers: the pipe %s was removed, and can't be made anew: %s",
                self._file_path,
                error.strerror,
            )
            return
        os.dup2(fd, self._pipe, inheritable=False)
        os.close(fd)
        self._warn("vanished", "timers: the pipe %s was removed; it is made anew", self._file_path)

    def _warn(self, kind: str, message: str, *args: object) -> None:
        """Log a warning once for each kind, so that a client can't fill the log."""
        (log.debug if kind in self._warned else log.warning)(message, *args)
        if len(self._warned) < _MOST_ANCESTORS:
            self._warned.add(kind)

    def _notify(self, name: str, request: FileTimerRequest | None) -> None:
        if self._log_event is None:
            return
        try:
            self._log_event(name, request)
        except Exception as error:  # noqa: BLE001  from a user's function; the timers go on
            self._warn("event", "timers: log_event raised %r", error)


def descends_from(pid: int, ancestors: set[int]) -> bool:
    """Return whether a process has one of these ancestors; it is no ancestor of itself."""
    for _ in range(_MOST_ANCESTORS):
        process = read_process(pid)
        if process is None or process.parent == 0:
            return False
        if process.parent in ancestors:
            return True
        pid = process.parent
    return False


def _hold(stuck: Stuck) -> int | None:
    """Return a pidfd of the process that set the timer; None if that process has ended."""
    try:
        pidfd = os.pidfd_open(stuck.pid)
    except OSError:
        return None
    process = read_process(stuck.pid)
    if process is None or process.ended or process.start != stuck.timer.process_start:
        os.close(pidfd)
        return None
    return pidfd


def _make_pipe(path: str) -> int:
    """Make and open a pipe; also for writing, so that the last writer's close is no end of file."""
    with contextlib.suppress(FileNotFoundError):
        _require_abandoned_pipe(path)
        os.unlink(path)
    os.mkfifo(path, 0o600)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise FileExistsError(errno.EEXIST, "something else took the pipe's place", path)


def _require_abandoned_pipe(path: str) -> None:
    found = os.lstat(path)
    if not stat.S_ISFIFO(found.st_mode):
        raise FileExistsError(errno.EEXIST, "what stands there is no pipe", path)
    if found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "the pipe there is another user's", path)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW))
    except OSError as error:
        if error.errno == errno.ENXIO:  # no process reads the pipe
            return
        raise
    raise FileExistsError(errno.EEXIST, "another timer server reads the pipe there", path)
