"""Carries what workers print to their log files and to the console.

A stream that goes anywhere but straight to the agent's own console runs through a pipe, and one
thread empties all pipes. So a full disk never reaches a worker as an error, and never holds up the
agent's loop. A file gets a worker's bytes exactly, and at once: a console that is slow has a thread
of its own (`consoles`), and holds up only workers that have no log file. The console gets lines as
soon as they are whole, or pause; `lines` says what a line is. One that is too long to be held waits
in its log file, which has it anyway, and is copied to the console when it ends; where there is no
log file, it is broken.

A file system that hangs, hangs the thread that empties the pipes, and nothing else: a watch names
each such file once, and workers that print wait for it, as they would if they wrote there
themselves. The console shows what was read before.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Sequence

from ...rendezvous.logs import Log
from ...rendezvous.threads import start_daemon
from ..system.call_watch import CallWatch
from .console import STUCK_S, Console, View
from .lines import PAUSE_S
from .pipes import PIPE_BYTES, WorkerPipes
from .reader import PipeReader
from .sinks import Faults, Sink, open_log_file
from .specs import LogsDest, Std

log = Log(__name__)

_FILES_S = 10.0
_RETRY_S = 10.0
_MAX_NAMED = 4


class OutputPump:
    """The pipes of one attempt's workers, and the thread that empties them.

    Args:
        dest: Where each stream goes; `specs.route_of` says how it is read.
        prefixes: What stands before each line of a worker, by local rank; else ``[<name><rank>]:``.
        name: What the workers are called: their role.
        stdout_filters: Words; lines of standard output with any of them go to
            ``dest.filtered_stdout`` as well. For that, every worker's standard output is carried.
        stderr_filters: The same for standard error.
        console_fds: The agent's standard output and standard error.
        retry_s: How long a file that could not be written is left alone before it is tried again.
        pause_s: The beginning of a line is shown when nothing has followed it for so long.
        stuck_s: A console that takes nothing for so long may lag behind no further, and a file
            that takes nothing for so long is named.
        begin: Called before something is shown, in the console's thread; it may block.
        on_end: Called in the pump's thread when it ends.

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
        begin: Callable[[], object] = lambda: None,
        on_end: Callable[[], object] = lambda: None,
    ) -> None:
        self._on_end = on_end
        self._faults = Faults()
        self._retry_s = retry_s
        self._stuck_s = stuck_s
        self._hung: set[str] = set()
        self._watch = CallWatch(stuck_s, self._wake_consoles, self._tell_of_a_hang)
        self._pipes_have_ended = threading.Event()
        self._reader: PipeReader | None = None
        self._thread: threading.Thread | None = None
        self._is_started = False
        self._is_drained = False
        self._is_over = False
        self.has_handed_on = False
        """Whether a process that a worker left running goes on to print into a log file."""
        self._has_lost_some = False
        marks = [_encoded((prefixes or {}).get(n, f"[{name}{n}]:")) for n in range(nprocs)]
        self._sinks = out, err = [
            Sink(fd, kind, self._faults, retry_s)
            for fd, kind in zip(console_fds, ("standard output", "standard error"), strict=True)
        ]
        is_one = _are_the_same(*console_fds)
        first = Console(
            "the console" if is_one else "standard output", self._wake, stuck_s, begin=begin
        )
        second = first if is_one else Console("standard error", self._wake, stuck_s, begin=begin)
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

    def carried_bytes(self) -> dict[int, int]:
        """Return how much each worker has printed that is carried; any thread may ask."""
        return self._pipes.carried_bytes()

    def lost_end(self, local_rank: int) -> bytes:
        """Return the end of a worker's standard error that its log file could not take."""
        return self._pipes.lost_end(local_rank)

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
            self.give_up()
            self._end()
            raise

    def _start_threads(self) -> None:
        self._reader = PipeReader(self._streams, PIPE_BYTES)
        self._watch.start()
        for console in self._consoles:
            console.start()
        self._thread = start_daemon(self._carry, "elrun-output")

    def drain(self) -> None:
        """Carry what is still in the pipes to the log files, then close the pipes.

        Called when all workers have ended. If another process holds a pipe open, which a worker has
        left running, ``cat`` goes on to carry for it. Consoles may take longer: see ``join``.
        """
        if self._is_drained:
            return
        self._is_drained = True
        if not self._is_started:
            with contextlib.suppress(OSError):  # then everything is closed
                self.start()
        if self._thread is None or self._reader is None:
            return
        self._reader.stop()
        hangs = self._watch.late != "" and self._watch.late == self._watch.current
        if not self._pipes_have_ended.wait(0 if hangs else _FILES_S):
            log.warning(
                "%s takes no output: what workers printed last is lost",
                self._watch.current or "a log file",
            )
            self.give_up()
            self._has_lost_some = self._is_over = True

    def give_up(self) -> None:
        """Wait no longer for consoles that take nothing."""
        for console in self._consoles:
            console.abandon()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the consoles have taken all, after ``drain``; return whether that is over.

        Args:
            timeout_s: How long; None: as long as it takes.
        """
        if self._thread is not None and not self._is_over:
            self._thread.join(timeout_s)
        return self._thread is None or self._is_over

    @property
    def has_shown_all(self) -> bool:
        """Whether all has been carried, and the console has taken what it was to show."""
        is_over = self._thread is None or self._is_over
        return is_over and not self._has_lost_some and all(each.is_complete for each in self._sinks)

    def _carry(self) -> None:
        try:
            self._pipes.open_files(
                lambda path, fate: open_log_file(
                    path, self._faults, self._retry_s, self._watch.during, fate=fate
                )
            )
            if self._reader is not None:
                for _ in self._reader.looks():
                    self._wake_consoles()
                held = self._reader.read_last()
                self._wake_consoles()  # before anybody else prints there
                for fd in held:
                    self._hand_on(fd)
        finally:
            self._end()

    def _end(self) -> None:
        if self._reader is not None:
            self._reader.close()
        else:
            self._pipes.close()
        self._pipes_have_ended.set()
        unsettled = [console.close() for console in self._consoles]
        for console, views in zip(self._consoles, unsettled, strict=True):
            if views:
                self._has_lost_some = True
                _tell_of_lost(console.name, views)
        if not any(console.may_read_files for console in self._consoles):  # else one hangs
            self._pipes.close_files()
        self._watch.close()
        self._is_over = True
        self._on_end()

    def _hand_on(self, fd: int) -> None:
        from .hand_over import hand_on, hand_on_to  # few workers leave anything

        stream = self._streams[fd]
        if not stream.path and stream.view is not None:
            hand_on_to(fd, stream.view.sink.fd)
        elif hand_on(fd, stream.path) and stream.path:
            self.has_handed_on = True

    def _wake_consoles(self) -> None:
        for console in self._consoles:
            console.wake()

    def _tell_of_a_hang(self, name: str) -> None:
        if name not in self._hung:
            self._hung.add(name)
            log.warning(
                "cannot write %s: its file system does not answer; workers that print wait for it",
                name,
            )

    def _wake(self) -> None:
        if self._reader is not None:
            self._reader.wake()


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
