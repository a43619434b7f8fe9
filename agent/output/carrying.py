"""Carries standard error in a thread: keeps each worker's end, and writes whole lines.

Lines of two workers do not mix. The kernel lets a writer finish unless the pipe is full, so what is
read from a pipe that was not full ends where a worker's write has ended, and is written on at once,
line or not. What was read from a full pipe may end in the middle of a line: that much waits for the
rest. A pipe counts as full if it had no room just before, or if more than half of its bytes were
read: it may have been filled in between, and a page of it may be full with a little more than half
of its bytes. Where a worker writes a line in several steps, as ``python -u`` does, the lines of
others wait for its end, for a moment at most. Whole lines are written by one call, as the worker
would have done.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import select
import threading
import time
from collections import deque

from ...rendezvous.logs import Log, live_line
from ...rendezvous.threads import start_thread
from .reader import PipeReader
from .steps import Steps, end_of_piece

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = Log(__name__)

KEPT_BYTES = 64 << 10
"""How much of the end of each worker's output is kept."""

LONGEST_LINE_BYTES = 256 << 10
"""A longer line is written in parts."""

_PIPE_BYTES = 64 << 10
# The writer that found no room has only to be scheduled; on an overloaded machine that takes long.
_REST_OF_LINE_S = 2.0
_TURN_S = 0.025


class Lines:
    """What is to be written to the target, and whose line has no end yet."""

    def __init__(self) -> None:
        self.queue: deque[bytes] = deque()
        self._begun_by: KeptOutput | None = None
        self._begun_at = 0.0
        self._waiting: list[KeptOutput] = []

    def add(self, data: bytes, output: KeptOutput, now: float) -> None:
        """Have something written, though it may interrupt a line."""
        self.queue.append(data)
        last = b"" if data.endswith(b"\n") else data[data.rfind(b"\n") + 1 :]
        self._begun_by = output if last and b"\r" not in last else None  # no progress bar
        self._begun_at = now
        while self._waiting and self._begun_by is None:
            self._waiting.pop(0).take_turn()

    def free_at(self, output: KeptOutput) -> float:
        """Return when an output may interrupt the line of another one."""
        is_free = self._begun_by is None or self._begun_by is output
        return 0.0 if is_free else self._begun_at + _TURN_S

    def wait(self, output: KeptOutput) -> None:
        """Have an output's ``take_turn`` called as soon as nobody's line is without an end."""
        if output not in self._waiting:
            self._waiting.append(output)


class KeptOutput:
    """What one worker prints: its end is kept, and it is added to the lines when it may be.

    Args:
        lines: What is to be written to the target.
        pipe_bytes: How much one read may find at most.
    """

    is_held_up = False

    def __init__(self, lines: Lines, pipe_bytes: int) -> None:
        self._lines = lines
        self._pipe_bytes = pipe_bytes
        self.was_full = False
        """Whether the pipe was full before it was read: a writer may wait to go on."""
        self._kept = bytearray()
        self._held = b""
        self._free_at = math.inf
        self._may_go_on = False
        self.due_at: float | None = None
        self.is_cut = False
        self.printed_bytes = 0
        self.printed_at: float | None = None
        """When it was read last, by the monotonic clock."""

    @property
    def end(self) -> bytes:
        return bytes(self._kept[-KEPT_BYTES:])

    def take(self, chunk: bytes, now: float) -> None:
        self._keep(chunk)
        self.printed_at = now
        self._may_go_on = self.was_full or len(chunk) > self._pipe_bytes // 2
        self._held += chunk
        free_at = min(self._lines.free_at(self), self._free_at)
        is_short = len(self._held) <= LONGEST_LINE_BYTES
        if now < free_at and is_short and not self._held.startswith(b"\r"):
            self.due_at = self._free_at = free_at
            self._lines.wait(self)
        else:
            self._add(now)

    def show_beginning(self) -> None:
        if self._free_at == math.inf:  # the rest of the line has not come in time
            self._may_go_on = False
        self._add(time.monotonic())

    def finish(self) -> None:
        self._may_go_on = False
        self._add(time.monotonic())

    def take_turn(self) -> None:
        if self._free_at < math.inf:
            self._add(time.monotonic())

    def _add(self, now: float) -> None:
        """Add what is held to the lines, but for the beginning of a line that may go on."""
        data, self._held = self._held, b""
        self.due_at, self._free_at = None, math.inf
        if self._may_go_on:
            end = 1 + max(data.rfind(b"\n"), data.rfind(b"\r"))
            if 0 < len(data) - end <= LONGEST_LINE_BYTES:
                self.due_at = now + _REST_OF_LINE_S
                data, self._held = data[:end], data[end:]
        if data:
            self._lines.add(data, self, now)

    def _keep(self, chunk: bytes) -> None:
        self._kept += chunk[-KEPT_BYTES:]
        self.printed_bytes += len(chunk)
        self.is_cut = self.is_cut or len(chunk) > KEPT_BYTES or len(self._kept) > KEPT_BYTES
        if len(self._kept) > 2 * KEPT_BYTES:
            del self._kept[:-KEPT_BYTES]


class Carrying:
    """One thread that reads the pipes of an attempt's workers and writes to the agent's stderr.

    Args:
        pipes: What is read, by local rank; closed at the end.
        writing_ends: The other ends, by local rank, as far as they are open in this process.
        target: Where it is written; closed at the end.
        begin: Called in the thread before it writes; it may block.
        on_end: Called in the thread when it ends.

    Raises:
        OSError: There are no descriptors, or no threads; then nothing is closed.
    """

    def __init__(
        self,
        pipes: Mapping[int, int],
        writing_ends: Mapping[int, int],
        target: int,
        begin: Callable[[], object],
        on_end: Callable[[], object],
    ) -> None:
        self._pipes = pipes
        self._target = target
        self._begin = begin
        self._on_end = on_end
        self._steps = Steps(target)
        self.lines = Lines()
        self.outputs = {
            rank: KeptOutput(self.lines, min(_PIPE_BYTES, fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)))
            for rank, fd in pipes.items()
        }
        self._has_reader = True
        self._is_given_up = False
        self._is_over = False
        outlets = {fd: self.outputs[rank] for rank, fd in pipes.items()}
        self._rooms = {pipes[rank]: _room_in(fd) for rank, fd in writing_ends.items()}
        self._outlets = outlets
        self._reader = PipeReader(outlets, _PIPE_BYTES, self._note_room)
        self._writable = select.poll()
        self._writable.register(target, select.POLLOUT)
        self._writable.register(self._reader.fileno(), select.POLLIN)
        self._thread = threading.Thread(target=self._run, name="elrun-stderr", daemon=True)
        try:
            start_thread(self._thread)
        except OSError:
            outlets.clear()
            self._reader.close()
            raise

    def end_of(self, local_rank: int) -> tuple[bytes, bool]:
        """Return the end of what a worker has printed so far, and whether that is all of it."""
        self._reader.read_now(self._pipes[local_rank])  # the thread may wait for the target
        output = self.outputs[local_rank]
        return output.end, not output.is_cut

    def printed_by(self, local_rank: int) -> tuple[int, bytes]:
        """Return how many bytes a worker has printed, and the last of them."""
        if not self.lines.queue:  # else the target is slow, and a living worker has to wait for it
            self._reader.read_now(self._pipes[local_rank])
        output = self.outputs[local_rank]
        return output.printed_bytes, output.end

    def forget_writing_ends(self) -> None:
        """Look at the writing ends no more: they are about to be closed."""
        self._rooms = {}

    def stop(self) -> None:
        """Have all carried that is in the pipes now, then everything closed; return at once."""
        self._reader.stop()

    def give_up(self) -> None:
        """Wait no longer for a target that takes nothing."""
        self._is_given_up = True
        self._reader.wake()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until all is carried after ``stop``; return whether it is.

        Args:
            timeout_s: How long; None: as long as it takes.
        """
        if not self._is_over:
            self._thread.join(timeout_s)
        return self._is_over

    def _run(self) -> None:
        try:
            self._begin()
            for _ in self._reader.looks():
                self._write_lines()
                if not self._has_reader or self._is_given_up:
                    break
            held = self._reader.read_last() if self._has_reader else []
            self._write_lines()
            for fd in held:
                hand_on(fd, self._target)
            if self.lines.queue:
                log.warning("standard error takes no output: what workers printed last is lost")
        finally:
            self._reader.close()
            os.close(self._target)
            self._is_over = True
            self._on_end()

    def _note_room(self, fd: int) -> None:
        room = self._rooms.get(fd)
        self._outlets[fd].was_full = room is not None and not room.poll(0)

    def _write_lines(self) -> None:
        queue = self.lines.queue
        while queue and not self._is_given_up:
            parts = list(queue)
            try:
                is_written = self._write(b"".join(parts))
            except ConnectionError:  # its reader has gone: so have the workers'
                self._has_reader = False
                queue.clear()
                return
            except OSError:  # as a full disk: a worker would have lost it, too
                is_written = True
            if is_written:
                for _ in parts:
                    queue.popleft()

    def _write(self, data: bytes) -> bool:
        """Write all, unless it is given up; return whether all is written."""
        start = 0
        while start < len(data):
            most = self._room()
            if most == 0:
                return False
            stop = end_of_piece(data, start, most)
            with contextlib.suppress(BlockingIOError):  # somebody has made it so, for all
                start += os.write(self._target, memoryview(data)[start:stop])
                live_line.is_after_part = data[start - 1 : start] != b"\n"
        return True

    def _room(self) -> int:
        """Return how much the target takes by one step now; 0: it is given up."""
        most = self._steps.most()
        if most > select.PIPE_BUF:
            return most
        while not self._is_given_up:
            if any(fd == self._target for fd, _ in self._writable.poll()):
                return select.PIPE_BUF
            self._reader.clear()
        return 0


def _room_in(pipe: int) -> select.poll:
    room = select.poll()
    room.register(pipe, select.POLLOUT)
    return room


def hand_on(fd: int, target: int) -> bool:
    """Let another process carry what comes out of a pipe; return whether one does."""
    from .hand_over import hand_on_to  # few workers leave anything running

    return hand_on_to(fd, target)
