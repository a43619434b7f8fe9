"""Python stacks of a worker that is stuck: offered by the worker, taken by its agent.

A worker that waits in C code can't run Python any more, but faulthandler's signal handler, which is
C as well, still shows what all its threads are doing. It writes to a pipe of the worker's, which
the agent opens through ``/proc``; as long as nobody does, nothing is read or written.

Where a worker offers none, because it uses torch's own client, an interpreter that was started with
``PYTHONFAULTHANDLER=1`` shows its stacks on standard error when SIGABRT ends it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import resource
import select
import signal
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass

from .pidfd import milliseconds_until, send_signal, wait_readable

log = logging.getLogger(__name__)

MAX_STACK_BYTES = 256 << 10
DUMP_S = 2.0

_QUIET_S = 0.1
_STATES = {
    "R": "running",
    "S": "waiting",
    "D": "in an uninterruptible wait for a device or a file system",
    "T": "stopped by a signal",
    "t": "stopped by a debugger",
}


@dataclass(frozen=True, slots=True)
class StackOffer:
    """How a process's stack can be had.

    Args:
        signal: What makes it write; 0: nothing does.
        fd: Its descriptor of the pipe that it writes to.
    """

    signal: int
    fd: int


NO_STACK = StackOffer(0, -1)


def offer_stack() -> StackOffer:
    """Make this process write its stack at a signal that nobody else uses."""
    taken = _signals(os.getpid(), b"SigCgt:") | _signals(os.getpid(), b"SigIgn:")
    free = [n for n in range(signal.SIGRTMAX - 1, signal.SIGRTMIN, -1) if n not in taken]
    if not free:
        return NO_STACK
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    os.close(read_fd)  # without a reader nothing is kept, and no write can block
    faulthandler.register(free[0], file=write_fd, all_threads=True)
    return StackOffer(free[0], write_fd)


def take_stack(pid: int, pidfd: int, offer: StackOffer) -> str:
    """Return the stack that a process offers, or nothing.

    Args:
        pid: Its process id.
        pidfd: Holds it.
        offer: Its word, which is not trusted: a process that doesn't catch the signal is spared.
    """
    real_time = signal.SIGRTMIN <= offer.signal <= signal.SIGRTMAX
    if not real_time or offer.signal not in _signals(pid, b"SigCgt:"):
        return ""
    with _pipe_of(pid, offer.fd) as pipe:
        if pipe is None:
            return ""
        send_signal(pidfd, offer.signal)
        return _read_until_quiet(pipe).decode(errors="replace").strip()


def abort_with_stack(pid: int, pidfd: int) -> bool:
    """End a process by SIGABRT, at which its faulthandler shows its stack on standard error.

    Args:
        pid: Its process id.
        pidfd: Holds it.

    Returns:
        Whether it ended within 2 s.
    """
    with contextlib.suppress(OSError):  # a core file of all its memory would take minutes
        hard = resource.prlimit(pid, resource.RLIMIT_CORE)[1]
        # To a limit of one byte, unlike to none, a core_pattern that is a program yields, too.
        resource.prlimit(pid, resource.RLIMIT_CORE, (min(1, hard) if hard >= 0 else 1, hard))
    send_signal(pidfd, signal.SIGABRT)
    return not wait_readable([pidfd], time.monotonic() + DUMP_S)[0]


def shows_stack_at_abort(pid: int) -> bool:
    """Return whether a process does something of its own at SIGABRT, as faulthandler does."""
    return signal.SIGABRT in _signals(pid, b"SigCgt:")


def describe_state(pid: int) -> str:
    """Return what the kernel says that a process's main thread is doing, or nothing."""
    state = _status(pid, b"State:").strip()[:1].decode(errors="replace")
    found = _STATES.get(state, "")
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/wchan", "rb") as file:
        place = file.read(100).decode(errors="replace")
        if found and place not in ("", "0"):
            found += f" in the kernel's {place}"
    return found


@contextlib.contextmanager
def _pipe_of(pid: int, fd: int) -> Iterator[int | None]:
    try:
        ours = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # it has ended, or there is no such descriptor
        yield None
        return
    try:
        yield ours if stat.S_ISFIFO(os.fstat(ours).st_mode) else None
    finally:
        os.close(ours)


def _read_until_quiet(pipe: int) -> bytes:
    """Read what one handler writes in one go: nothing tells its end but that no more comes."""
    found = b""
    deadline = time.monotonic() + DUMP_S
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while len(found) < MAX_STACK_BYTES and poll.poll(milliseconds_until(deadline)):
        try:
            data = os.read(pipe, 1 << 16)
        except BlockingIOError:  # somebody else reads there, too
            continue
        if not data:
            break
        found += data
        deadline = min(deadline, time.monotonic() + _QUIET_S)
    return found[:MAX_STACK_BYTES]


def _signals(pid: int, field: bytes) -> set[int]:
    mask = int(_status(pid, field) or b"0", 16)
    return {number for number in range(1, signal.NSIG) if mask >> (number - 1) & 1}


def _status(pid: int, field: bytes) -> bytes:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", "rb") as file:
        for line in file:
            if line.startswith(field):
                return line[len(field) :]
    return b""
