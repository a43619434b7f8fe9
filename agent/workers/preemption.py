"""Lets a script ask whether its job is being preempted: the function ``elrun.preemption``.

The agent and its workers share a few bytes of memory, which the agent fills in when the job is
preempted (``agent/monitoring/preemption_notice.py``). So an answer makes no system call, and may be
asked for by any thread, or by a child process such as a DataLoader's.

A script that asks need not handle the signal, whose default action would end it: the scheduler may
send it to all processes. Python can set handlers in the main thread only, and a handler of ours
would stand in the way of one that a library wants to set later. ``faulthandler`` has neither
trouble: its handler is written in C, and Python's own table still says that there is none.

A handler that the script sets later takes its place. ``signal.signal`` is wrapped to hear of that:
the agent must not kill such a worker at once, whose handler may save; and when the script puts the
default action back, the handler in C has to come back.
"""

from __future__ import annotations

import _thread
import os
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

VARIABLE = "ELRUN_PREEMPTION"
"""Names the signals that are the workers', as numbers, and the shared memory, as a path."""

HEADER = 16
"""A byte that says whether the job is preempted; at byte 8, until when workers have time. A byte
for each process id follows: whether that process survives SIGTERM because it has asked."""

_ENDS_AT = slice(8, HEADER)
_NOWHERE = 2**31 - 1
"""No descriptor: what ``faulthandler`` would write goes there."""


class Preemption:
    """Whether the job is being preempted, and how long its workers have to save and leave.

    What it says is what holds when it is asked.

    Args:
        cell: Shared with the agent, or zeros.
    """

    __slots__ = ("_cell", "_ends_at")

    def __init__(self, cell: bytearray) -> None:
        self._watch(cell)

    def _watch(self, cell: bytearray) -> None:
        """Say from now on what stands in a cell."""
        self._cell = cell
        self._ends_at = memoryview(cell)[_ENDS_AT].cast("d")

    def __repr__(self) -> str:
        return f"Preemption(pending={self.pending}, seconds_left={self.seconds_left})"

    @property
    def pending(self) -> bool:
        """Whether the job is being preempted; that is final."""
        return self._cell[0] != 0

    @property
    def seconds_left(self) -> float | None:
        """Seconds until elrun ends the workers, not below 0; None: the job is not preempted.

        It may grow within the first two seconds, when SLURM has said when it ends the job.
        """
        return max(0.0, self._ends_at[0] - time.monotonic()) if self._cell[0] else None


class _Inquiry:
    """What this process knows of the shared memory, found at the first question."""

    __slots__ = ("_answer",)

    def __init__(self) -> None:
        self._answer: Preemption | None = None

    def preemption(self) -> Preemption:
        """Return what tells whether the job is being preempted (``--preempt-signal``).

        ``pending`` says whether to save and leave, ``seconds_left`` how long there is for it. Ask
        once a step: it takes a tenth of a microsecond, and works in every thread, in processes that
        a worker has started, and outside elrun, where nothing is pending. Ranks may see it some
        steps apart, so let them agree, as by an ``all_reduce``, before they leave their step.

        From the first call on, signals that elrun passes on to workers (``--preempt-signal``,
        ``--forward-signals``) no longer end this process. A handler of the script's stays.
        """
        if self._answer is None:
            self._answer = Preemption(_begin(os.environ.get(VARIABLE, "")))
        return self._answer

    def begin_worker(self) -> None:
        """Ask anew, if this process, which has just become a worker, is a copy of one that asked.

        The answer is the same object: a module of the script's may keep it.
        """
        if self._answer is not None:
            self._answer._watch(_begin(os.environ.get(VARIABLE, "")))  # noqa: SLF001  this module's own


def _begin(order: str) -> bytearray:
    """Let signals end this process no longer; return what is shared with the agent, or zeros."""
    words, _, path = order.partition(" ")
    cell = _open(path)
    numbers = {int(each) for each in words.split(",") if each.isascii() and each.isdigit()}
    survived = {number for number in numbers if _survive(number)}
    if not survived:
        return cell
    if signal.SIGTERM in survived:
        _keep_from_children(signal.SIGTERM)
    _outlast_handlers(survived)
    place = HEADER + os.getpid()

    def mark(number: int, *, survives: bool) -> None:
        if number == signal.SIGTERM and place < len(cell):
            cell[place] = survives

    mark(signal.SIGTERM, survives=signal.SIGTERM in survived)
    _follow_handlers(survived, mark)
    return cell


def _survive(number: int) -> bool:
    """Let a signal have no effect on this process, unless somebody has seen to it."""
    if not _has_default_action(number):
        return False
    import faulthandler  # built in

    try:
        faulthandler.unregister(number)  # of one whose handler another one has replaced
        faulthandler.register(number, _NOWHERE, all_threads=False)
    except (OSError, RuntimeError, ValueError):  # no signal of this system
        return False
    return True


def _follow_handlers(survived: Collection[int], mark: Callable[..., None]) -> None:
    """Hear of the script's own handlers for the signals that this process survives.

    Args:
        mark: Notes whether the process survives one of them only since it has asked.
    """
    pid, set_handler = os.getpid(), signal.signal

    def note(signalnum: Any, handler: Any) -> Any:
        is_followed = os.getpid() == pid and isinstance(signalnum, int) and signalnum in survived
        if not is_followed:
            return set_handler(signalnum, handler)
        mark(signalnum, survives=False)  # beforehand: the agent may ask this process to end
        try:
            return set_handler(signalnum, handler)
        finally:
            if signal.getsignal(signalnum) is signal.SIG_DFL:
                _survive(signalnum)
                mark(signalnum, survives=True)

    note.__name__, note.__doc__ = "signal", set_handler.__doc__
    note.__wrapped__ = set_handler  # type: ignore[attr-defined]
    signal.signal = note


def _outlast_handlers(survived: Collection[int]) -> None:
    """Ignore the signals once Python ends: it takes its handlers back before the process is gone.

    The signal may come late: a worker that sees that the job is preempted may leave before.
    """
    import atexit  # built in

    pid, set_handler = os.getpid(), signal.signal

    def ignore() -> None:
        if os.getpid() != pid:
            return
        import faulthandler

        before = signal.pthread_sigmask(signal.SIG_BLOCK, survived)
        for number in survived:
            if signal.getsignal(number) is signal.SIG_DFL:  # else the script's own handler stays
                faulthandler.unregister(number)
                set_handler(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    atexit.register(ignore)


def _keep_from_children(number: int) -> None:
    """Give forked children the signal's default action: libraries end them by SIGTERM.

    One that comes while a child is forked waits for that.
    """
    import faulthandler

    masks: dict[int, set[int]] = {}  # by thread

    def block() -> None:
        masks[_thread.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, (number,))

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop(_thread.get_ident()))

    def forget() -> None:
        if signal.getsignal(number) is signal.SIG_DFL:  # else the script has set its own since
            faulthandler.unregister(number)
        unblock()

    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=forget)


def _has_default_action(number: int) -> bool:
    """Return whether nobody ignores or handles a signal, in Python or in C."""
    try:
        with open("/proc/self/status", "rb") as status:
            masks = [line.split()[1] for line in status if line.startswith((b"SigIgn", b"SigCgt"))]
    except OSError:
        return signal.getsignal(number) is signal.SIG_DFL
    return not any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def _open(path: str) -> bytearray:
    if not path:
        return bytearray(HEADER)
    import mmap  # only where elrun may say something

    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            return mmap.mmap(fd, 0)  # type: ignore[return-value]
        finally:
            os.close(fd)
    except (OSError, ValueError):  # its agent has gone, or can't be reached from here
        return bytearray(HEADER)


_inquiry = _Inquiry()
preemption = _inquiry.preemption
begin_worker = _inquiry.begin_worker
