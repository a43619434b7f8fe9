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
import os
import resource
import select
import signal
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from ...rendezvous.logs import Log
from ...rendezvous.named_tuple import NamedTuple
from .pidfd import milliseconds_until, send_signal, wait_readable
from .process_states import HOOK_SIGNAL, signals_in, state_of

log = Log(__name__)

MAX_STACK_BYTES = 256 << 10
DUMP_S = 2.0

_QUIET_S = 0.1


class StackOffer(NamedTuple):
    """How a process's stack can be had.

    Args:
        signal: What makes it write; 0: nothing does.
        fd: Its descriptor of the pipe that it writes to.
    """

    signal: int
    fd: int


NO_STACK = StackOffer(0, -1)

_HOOK_FDS = 1024

STOP_DUMP_S = 0.1
"""How long workers that are about to be stopped have to write their stacks."""

_LOOK_S = 0.002
_HELD = ("T", "t", "Z", "X", "")
"""States in which a process would not answer: it is stopped, or has ended."""

_SIGNAL_WAITS = {  # pause, rt_sigsuspend, rt_sigtimedwait
    "x86_64": (b"34", b"130", b"128"),
    "aarch64": (b"133", b"137"),
}
_PPOLL_OF_ARM = b"73"  # on other machines it has no such arguments


def offer_of_hook() -> StackOffer:
    """Return what the hook in a Python worker offers, as its ``crash_stacks.py`` says."""
    return StackOffer(HOOK_SIGNAL, min(os.sysconf("SC_OPEN_MAX"), _HOOK_FDS) - 2)


def send_by_pid(pid: int, number: int) -> bool:
    """Send a signal to a process that can't have been reaped; return whether it is there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
        return True
    return False


def take_stacks(
    pids: Iterable[int],
    within_s: float = STOP_DUMP_S,
    send: Callable[[int, int], bool] = send_by_pid,
) -> dict[int, str]:
    """Return the stacks of Python workers by process id, without those that offer none in time.

    Args:
        within_s: How long it may take, for all of them together.
        send: Sends a signal to the process with an id, unless that id may be another's by now;
            returns whether it has.
    """
    offer = offer_of_hook()
    with contextlib.ExitStack() as pipes:
        asked: dict[int, int] = {}
        for pid in pids:
            caught = signals_in(pid, b"SigCgt:")
            if offer.signal not in caught or state_of(pid) in _HELD or _waits_for_signals(pid):
                continue
            # A worker that is late writes to a pipe without a reader; SIGPIPE must not end it.
            if signal.SIGPIPE not in caught | signals_in(pid, b"SigIgn:"):
                continue
            pipe = pipes.enter_context(_pipe_of(pid, offer.fd))
            if pipe is not None and send(pid, offer.signal):
                asked[pid] = pipe
        return _read_all(asked, offer.signal, time.monotonic() + within_s)


def _waits_for_signals(pid: int) -> bool:
    """Return whether a process's main thread waits for a signal, or may do so for all we know.

    Such a wait ends with any signal, also one that is none of the program's.
    """
    with contextlib.suppress(OSError), open(f"/proc/{pid}/syscall", "rb") as file:
        call, *arguments = file.read(200).split()
        waits = _SIGNAL_WAITS.get(os.uname().machine)
        if waits is not None:
            # ppoll of no descriptors is pause() where the kernel has no such call.
            return call in waits or (call == _PPOLL_OF_ARM and arguments[:2] == [b"0x0", b"0x0"])
    return True


def _read_all(pipes: Mapping[int, int], number: int, deadline: float) -> dict[int, str]:
    found = dict.fromkeys(pipes, b"")
    writing = set(pipes)
    while writing and (left_s := deadline - time.monotonic()) > 0:
        poll = select.poll()
        for pid in writing:
            poll.register(pipes[pid], select.POLLIN)
        poll.poll(1000 * min(_LOOK_S, left_s))
        for pid in sorted(writing):
            # What it had written when it was seen to be done is all there is.
            is_done = number not in signals_in(pid, b"ShdPnd:") | signals_in(pid, b"SigBlk:")
            data = _read_what_is_there(pipes[pid], MAX_STACK_BYTES - len(found[pid]))
            found[pid] += data
            if len(found[pid]) >= MAX_STACK_BYTES or (is_done and not data and found[pid]):
                writing.remove(pid)
    return {pid: text.decode(errors="replace").strip() for pid, text in found.items() if text}


def _read_what_is_there(pipe: int, limit: int) -> bytes:
    try:
        return os.read(pipe, min(limit, 1 << 16))
    except BlockingIOError:
        return b""


def offer_stack() -> StackOffer:
    """Make this process write its stack at a signal that nobody else uses."""
    taken = signals_in(os.getpid(), b"SigCgt:") | signals_in(os.getpid(), b"SigIgn:")
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
        offer: Its word, which is not trusted: a process that doesn't catch the signal is spared.
    """
    real_time = signal.SIGRTMIN <= offer.signal <= signal.SIGRTMAX
    if not real_time or offer.signal not in signals_in(pid, b"SigCgt:"):
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
    return signal.SIGABRT in signals_in(pid, b"SigCgt:")


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
