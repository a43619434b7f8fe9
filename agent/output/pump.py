"""Carries what workers print to their log files and to the console.

A stream that goes anywhere but straight to the agent's own console runs through a pipe, and one
thread empties all pipes. So a full disk never reaches a worker as an error, and never holds up the
agent's loop. A file gets a worker's bytes exactly, and at once: a console that is slow has a thread
of its own (`consoles`), and holds up only workers that have no log file. The console gets lines as
soon as they are whole, or pause; `lines` says what a line is. One that is too long to be held waits
in its log file, which has it anyway, and is copied to the console when it ends; where there is no
log file, it is broken.

A file system that hangs, hangs the thread that empties the pipes, and nothing else: a watch says
which file it is, and workers that print wait for it, as they would if they wrote there themselves.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import threading
import time
from collections.abc import Sequence

from ...rendezvous.logs import Log
from ...rendezvous.threads import start_thread
from ..system.hangs import HangWatch
from ..system.pidfd import milliseconds_until
from .console import STUCK_S, Console, View
from .lines import PAUSE_S
from .pipes import CHUNK_BYTES, WorkerPipes
from .sinks import Faults, Sink, open_log_file
from .specs import LogsDest, Std

log = Log(__name__)

# A worker that prints without a buffer (`python -u`) wakes the pump at each write. After a look
# that found little, the pump leaves the pipes alone for a moment: then it costs a tenth, and the
# first line after a silence is still shown at once.
_LITTLE_BYTES = 32 * 1024
_REST_S = 0.002

_LAST_LOOK_S = 1.0
_RETRY_S = 10.0
_CATCH_UP_S = 30.0
"""How long a console may take at the end, while it takes something."""

_MAX_NAMED = 4


class OutputPump:
    """The pipes of one attempt's workers, and the thread that empties them.

    Args:
        dest: Where each stream goes; `specs.route_of` says how it is read.
        nprocs: Number of workers.
        prefixes: What stands before each line of a worker, by local rank; else ``[<name><rank>]:``.
        name: What the workers are called: their role.
        stdout_filters: Words; lines of standard output with any of them go to
            ``dest.filtered_stdout`` as well. For that, every worker's standard output is carried.
        stderr_filters: The same for standard error.
        console_fds: The agent's standard output and standard error.
        retry_s: How long a file that could not be written is left alone before it is tried again.
        pause_s: The beginning of a line is shown when nothing has followed it for so long.
        stuck_s: A console that takes nothing for so long is given up at the end, and a file that
            takes nothing for so long is named.

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
        pause_s: float = PAUSE_S,
        stuck_s: float = STUCK_S,
    ) -> None:
        self._faults = Faults()
        self._retry_s = retry_s
        self._stuck_s = stuck_s
        self._watch = HangWatch(stuck_s, _tell_of_a_hang)
        self._wake_fd = -1
        self._is_told_to_stop = False
        self._pipes_have_ended = threading.Event()
        self._consoles_have_ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_started = False
        self._is_drained = False
        self._hands_on = False
        self._has_lost_some = False
        marks = [_encoded((prefixes or {}).get(n, f"[{name}{n}]:")) for n in range(nprocs)]
        self._sinks = out, err = [
            Sink(fd, kind, self._faults, retry_s)
            for fd, kind in zip(console_fds, ("standard output", "standard error"), strict=True)
        ]
        is_one = _are_the_same(*console_fds)
        first = Console("the console" if is_one else "standard output", self._wake, stuck_s)
        second = first if is_one else Console("standard error", self._wake, stuck_s)
        self._consoles = [first] if is_one else [first, second]
        self._pipes = WorkerPipes(dest, marks, pause_s)
        self._streams = self._pipes.streams
        try:
            self._pipes.open(Std.OUT, _encoded_all(stdout_filters), first, out)
            self._pipes.open(Std.ERR, _encoded_all(stderr_filters), second, err)
        except BaseException:
            self._pipes.close_workers_ends()
            self._pipes.close()
            raise

    def stdout_fd(self, local_rank: int) -> int | None:
        """Return what a worker's fd 1 must become, None where it inherits the agent's."""
        return self._pipes.workers_end(Std.OUT, local_rank)

    def stderr_fd(self, local_rank: int) -> int | None:
        """Return what a worker's fd 2 must become, None where it inherits the agent's."""
        return self._pipes.workers_end(Std.ERR, local_rank)

    def start(self) -> None:
        """Begin to carry; called once, when all workers have their ends of the pipes.

        Raises:
            OSError: The system grants no descriptors or threads; then everything is closed.
        """
        self._is_started = True
        self._pipes.close_workers_ends()
        if not self._streams:
            return
        try:
            self._start_threads()
        except BaseException:
            self._pipes.close()
            self._let_consoles_catch_up(0.0)
            self._watch.close()
            self._close_wake_fd()
            raise

    def _start_threads(self) -> None:
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._watch.start()
        for console in self._consoles:
            console.start()
        self._thread = start_thread(
            threading.Thread(target=self._carry, name="elrun-output", daemon=True)
        )

    def drain(self, timeout_s: float, *, hands_on: bool = False) -> None:
        """Carry what is still in the pipes, then close everything.

        Called when all workers and their children have ended; then the pipes end, too. A process
        that got away may hold one open: what there is by the end of the time is carried, no more.
        A console that is behind may take longer than the time, as long as it takes something.

        Args:
            timeout_s: How long to wait for the pipes to end.
            hands_on: Whether processes may hold pipes on purpose: what they print from now on goes
                to the log files, and the pipes' end is not waited for.
        """
        if self._is_drained:
            return
        self._is_drained = True
        self._hands_on = hands_on
        if not self._is_started:
            with contextlib.suppress(OSError):  # then everything is closed
                self.start()
        if self._thread is None:
            return
        hangs = self._watch.late != "" and self._watch.late == self._watch.current
        self._pipes_have_ended.wait(0 if hangs or hands_on else max(0.0, timeout_s))
        if not self._pipes_have_ended.is_set():
            self._is_told_to_stop = True
            self._wake()
            self._pipes_have_ended.wait(timeout_s if hands_on else _LAST_LOOK_S)
        if self._pipes_have_ended.is_set():
            self._consoles_have_ended.wait(_CATCH_UP_S)
            self._thread.join(_LAST_LOOK_S)
        if self._thread.is_alive():
            log.warning(
                "%s takes no output: what workers printed last is lost",
                self._watch.current or "a log file",
            )
        else:
            self._close_wake_fd()

    @property
    def has_shown_all(self) -> bool:
        """Whether all has been carried, and the console has taken what it was to show."""
        is_over = self._thread is None or not self._thread.is_alive()
        return is_over and not self._has_lost_some and all(each.is_complete for each in self._sinks)

    def _carry(self) -> None:
        try:
            self._pipes.open_files(
                lambda path: open_log_file(path, self._faults, self._retry_s, self._watch)
            )
            self._carry_until_all_end()
            self._carry_what_is_left()
        finally:
            self._pipes.close()
            self._pipes_have_ended.set()
            self._let_consoles_catch_up()
            if not any(console.may_read_files for console in self._consoles):  # else one hangs
                self._pipes.close_files()
            self._watch.close()

    def _carry_until_all_end(self) -> None:
        # No epoll: it would go on about a pipe that was closed here, but is still held by a process
        # that the agent forked.
        ready, wake = select.poll(), select.poll()
        wake.register(self._wake_fd, select.POLLIN)
        for fd in (self._wake_fd, *self._streams):
            ready.register(fd, select.POLLIN)
        held_up: set[int] = set()
        while self._streams:
            fds = [fd for fd, _ in ready.poll(self._milliseconds_until_due())]
            if self._wake_fd in fds:
                os.eventfd_read(self._wake_fd)
                if self._is_told_to_stop:
                    return
                fds.remove(self._wake_fd)
                for fd in held_up:
                    ready.register(fd, select.POLLIN)
                held_up.clear()
            self._show_what_is_due()
            most = 0
            for fd in fds:
                if self._streams[fd].is_held_up:
                    held_up.add(fd)
                else:
                    most = max(most, self._carry_from(fd))
                if fd in held_up or fd not in self._streams:
                    ready.unregister(fd)
            if most < _LITTLE_BYTES:
                wake.poll(_REST_S * 1000)

    def _milliseconds_until_due(self) -> int | None:
        due = [at for stream in self._streams.values() if (at := stream.due_at) is not None]
        return milliseconds_until(min(due)) if due else None

    def _show_what_is_due(self) -> None:
        now = time.monotonic()
        for stream in self._streams.values():
            if stream.due_at is not None and stream.due_at <= now:
                stream.show_beginning()

    def _carry_what_is_left(self) -> None:
        have_ended = [self._carry_last_from(fd) for fd in list(self._streams)]
        if not all(have_ended):
            log.warning(
                "a process that a worker left behind holds its output open: "
                "what it prints from now on is lost"
            )

    def _carry_last_from(self, fd: int) -> bool:
        """Return whether nothing is lost: the pipe has ended, or is somebody else's to empty."""
        with contextlib.suppress(BlockingIOError):
            # One look takes all that a pipe can hold; another tells whether it has ended.
            if self._carry_from(fd) == 0 or self._carry_from(fd) == 0:
                return True
        is_handed_on = self._hands_on and self._hand_on(fd)
        self._pipes.end(fd)
        return is_handed_on

    def _hand_on(self, fd: int) -> bool:
        from .hand_over import hand_on  # noqa: PLC0415  few workers leave anything running

        return hand_on(fd, self._streams[fd].path)

    def _carry_from(self, fd: int) -> int:
        chunk = os.read(fd, CHUNK_BYTES)
        if chunk:
            self._streams[fd].take(chunk, time.monotonic())
        else:
            self._pipes.end(fd)
        return len(chunk)

    def _wake(self) -> None:
        if self._wake_fd >= 0:
            os.eventfd_write(self._wake_fd, 1)

    def _close_wake_fd(self) -> None:
        wake_fd, self._wake_fd = self._wake_fd, -1
        if wake_fd >= 0:
            os.close(wake_fd)

    def _let_consoles_catch_up(self, within_s: float = _CATCH_UP_S) -> None:
        deadline = time.monotonic() + within_s
        unsettled = [console.close(deadline) for console in self._consoles]
        self._consoles_have_ended.set()
        for console, views in zip(self._consoles, unsettled, strict=True):
            if views:
                self._has_lost_some = True
                _tell_of_lost(console.name, views)


def _tell_of_lost(console: str, views: Sequence[View]) -> None:
    """Say which streams a console has not shown to their ends, and where the rest is."""
    lost = [
        f"{view.given_bytes - view.settled_bytes} bytes of the {view.name} ({view.where})"
        for view in views
    ]
    more = len(lost) - _MAX_NAMED
    log.warning(
        "%s takes no output: not shown are %s%s",
        console,
        ", ".join(lost[:_MAX_NAMED]),
        f" and some of {more} more streams" if more > 0 else "",
    )


def _tell_of_a_hang(name: str) -> None:
    log.warning(
        "cannot write %s: its file system does not answer; workers that print wait for it", name
    )


def _are_the_same(fd: int, other: int) -> bool:
    """Return whether both lead to the same terminal, pipe or socket."""
    try:
        status, others = os.fstat(fd), os.fstat(other)
    except OSError:  # one is closed
        return False
    is_file = stat.S_ISREG(status.st_mode)
    return not is_file and (status.st_dev, status.st_ino) == (others.st_dev, others.st_ino)


def _encoded_all(words: Sequence[str] | None) -> list[bytes]:
    return [_encoded(word) for word in words or ()]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
