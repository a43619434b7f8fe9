"""Carries what workers print on standard error to the agent's own, and keeps the end of it.

Where standard error is a pipe, a file or a socket, as under SLURM, Kubernetes and CI, nobody misses
a terminal: each worker gets a pipe of its own, and what comes out is written on, byte for byte. The
last 64 KiB of each rank are kept: they tell why a program ended that leaves no record. Where
standard output is the same file, both streams of a worker go through its one pipe, so that their
order stays.

One thread reads all pipes and writes to the one place where all would have gone without it. If that
place takes nothing, the workers wait, as they would have; if its reader has gone, so have theirs.
"""

from __future__ import annotations

import fcntl
import os
import select
import threading
import time
from collections.abc import Iterable, Iterator

from ...rendezvous.threads import NoThreadError, start_thread
from ..system.pidfd import close_all

KEPT_BYTES = 64 << 10
"""How much of the end of each worker's output is kept."""

# A pipe holds 64 KiB. Were much more asked for, malloc would fetch and give back memory each time.
_CHUNK_BYTES = 96 << 10
# A worker that prints without a buffer wakes the carrier at each write. After a look that found
# little, the carrier leaves the pipes alone for a moment: then it costs a tenth.
_LITTLE_BYTES = 16 << 10
_REST_MS = 2
_NO_PROGRESS_S = 2.0
_LAST_LOOK_S = 1.0
_MOMENT_S = 0.2


class Carrier:
    """The pipes of one attempt's workers, and the thread that empties them.

    Args:
        stderr_of: The local ranks whose standard error it carries.
        stdout_of: Those whose standard output it carries as well, since it is the same file.
        target: The agent's standard error.

    Raises:
        OSError: There can be no more descriptors.
    """

    def __init__(
        self, stderr_of: Iterable[int], stdout_of: Iterable[int] = (), *, target: int = 2
    ) -> None:
        self._ranks: dict[int, int] = {}
        self._stderrs: dict[int, int] = {}
        self._stdouts: dict[int, int] = {}
        self._kept: dict[int, bytearray] = {}
        self._is_cut: set[int] = set()
        self._ended: dict[int, threading.Event] = {}
        self._carried = 0
        self._patience_s = _MOMENT_S
        self._is_told_to_stop = False
        self._thread: threading.Thread | None = None
        self._wake_fd = self._target = -1
        try:
            self._target = fcntl.fcntl(target, fcntl.F_DUPFD_CLOEXEC, 3)
            self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            for local_rank in stderr_of:
                reading, self._stderrs[local_rank] = os.pipe2(os.O_CLOEXEC)
                self._ranks[reading] = local_rank
                self._kept[local_rank] = bytearray()
                self._ended[local_rank] = threading.Event()
            for local_rank in stdout_of:
                self._stdouts[local_rank] = os.dup(self._stderrs[local_rank])
        except OSError:
            self._close()
            raise

    def stdout_fd(self, local_rank: int) -> int | None:
        """Return what a worker's fd 1 must become, None where it is not carried."""
        return self._stdouts.get(local_rank)

    def stderr_fd(self, local_rank: int) -> int | None:
        """Return what a worker's fd 2 must become, None where it is not carried."""
        return self._stderrs.get(local_rank)

    def start(self) -> None:
        """Begin to carry; called once, when all workers have their ends of the pipes.

        Raises:
            NoThreadError: There is no thread, and no process that could do it.
        """
        self._close_workers_ends()
        thread = threading.Thread(target=self._carry, name="elrun-stderr", daemon=True)
        try:
            self._thread = start_thread(thread)
        except NoThreadError:
            if not all(self._hand_on(fd) for fd in self._ranks):
                raise
            self._close()

    def end_of(self, local_rank: int) -> tuple[bytes, bool]:
        """Return the end of what a worker printed, and whether that is all of it.

        Args:
            local_rank: Whose. The last of it may be on its way: it is waited for, for a moment in
                all, since a child of the worker may hold the pipe open.
        """
        if local_rank not in self._kept:
            return b"", True
        if self._thread is not None and self._patience_s > 0:
            begun_at = time.monotonic()
            self._ended[local_rank].wait(self._patience_s)
            self._patience_s -= time.monotonic() - begun_at
        return bytes(self._kept[local_rank][-KEPT_BYTES:]), local_rank not in self._is_cut

    def drain(self, *, hands_on: bool = False) -> None:
        """Carry what is still in the pipes, then close everything.

        Called when all workers and their children have ended; then the pipes end, too. A process
        that got away may hold one open, or the target may take nothing: then it is given up after
        two seconds without progress.

        Args:
            hands_on: Whether processes may hold pipes on purpose: others carry on for them.
        """
        self._close_workers_ends()
        if self._thread is None or self._target < 0:
            self._close()
            return
        before = -1
        while not hands_on and self._thread.is_alive() and before != self._carried:
            before = self._carried
            self._thread.join(_NO_PROGRESS_S)
        self._is_told_to_stop = True
        os.eventfd_write(self._wake_fd, 1)
        self._thread.join(_LAST_LOOK_S)
        if self._thread.is_alive():  # in a write that does not end
            return
        if hands_on:
            for fd in self._ranks:
                self._hand_on(fd)
        self._close()

    def _carry(self) -> None:
        for fd, chunk in self._chunks():
            self._keep(self._ranks[fd], chunk)
            try:
                self._write(chunk)
            except BrokenPipeError:  # its reader has gone: so have the workers'
                for reading in [*self._ranks]:
                    self._end(reading)
                return
            except OSError:  # as a full disk: a worker would have lost it, too
                continue

    def _chunks(self) -> Iterator[tuple[int, bytes]]:
        """Return what is printed, as it comes, until all pipes have ended or it is told to stop."""
        ready, rest = select.poll(), select.poll()
        rest.register(self._wake_fd, select.POLLIN)
        for fd in (self._wake_fd, *self._ranks):
            ready.register(fd, select.POLLIN)
        while self._ranks:
            most, is_last = 0, self._is_told_to_stop
            found = [fd for fd, _ in ready.poll(0 if is_last else None)]
            for fd in found:
                if fd == self._wake_fd:
                    continue
                chunk = os.read(fd, _CHUNK_BYTES)
                most = max(most, len(chunk))
                if chunk:
                    yield fd, chunk
                else:
                    ready.unregister(fd)
                    self._end(fd)
            if is_last:  # a pipe holds no more than one look takes
                return
            if most < _LITTLE_BYTES:
                rest.poll(_REST_MS)

    def _keep(self, local_rank: int, chunk: bytes) -> None:
        kept = self._kept[local_rank]
        kept += chunk
        if len(kept) > 4 * KEPT_BYTES:
            del kept[:-KEPT_BYTES]
        if len(kept) > KEPT_BYTES:
            self._is_cut.add(local_rank)

    def _write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            rest = rest[self._write_some(rest) :]
        self._carried += len(chunk)

    def _write_some(self, rest: memoryview) -> int:
        try:
            return os.write(self._target, rest)
        except BlockingIOError:  # somebody has made it so, for all who write there
            waiting = select.poll()
            waiting.register(self._target, select.POLLOUT)
            waiting.poll()
            return 0

    def _end(self, fd: int) -> None:
        os.close(fd)
        self._ended[self._ranks.pop(fd)].set()

    def _hand_on(self, fd: int) -> bool:
        from .hand_over import hand_on_to  # noqa: PLC0415  few workers leave anything running

        return hand_on_to(fd, self._target)

    def _close_workers_ends(self) -> None:
        close_all([*self._stderrs.values(), *self._stdouts.values()])
        self._stderrs.clear()
        self._stdouts.clear()

    def _close(self) -> None:
        self._close_workers_ends()
        close_all([*self._ranks, *({self._wake_fd, self._target} - {-1})])
        self._ranks.clear()
        self._wake_fd = self._target = -1
