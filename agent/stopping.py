"""Stops a worker group: the workers, and everything that came from them.

The death signal goes to each worker's process group, SIGCONT after it for those that are suspended,
and the groups share one deadline, at which SIGKILL follows. A whole group has that time, not only
the worker: the worker may be a shell that ends at once, while the program it runs saves a
checkpoint. What is left then (a daemon in a session of its own, what a crashed worker left behind)
has a moment to leave before it is killed, round by round until a look at the system finds nothing
more. Every wait is bounded: a process in uninterruptible sleep can't be killed, and is reported.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence

from .descendants import Family, Process, read_adopted, read_process
from .pidfd import close_all, send_signal, wait_readable
from .worker_process import WorkerProcess

log = logging.getLogger(__name__)

KILL_WAIT_S = 10.0
"""How long the kernel may take to end what it was told to kill."""

_LEAVE_S = 0.25
"""How long leftovers have: Python's resource tracker needs it to remove what was shared."""

_CALM_LOOKS = 2


class Sweep:
    """What ``end_family`` met.

    Attributes:
        found: Every process that it found, those that had ended before with them.
        stuck: The processes that could not be killed in time.
    """

    __slots__ = ("found", "stuck")

    def __init__(self) -> None:
        self.found: list[Process] = []
        self.stuck: list[Process] = []


def stop_workers(
    workers: Sequence[WorkerProcess],
    family: Family,
    death_signal: int,
    grace_s: float,
    urgent_fd: int | None = None,
) -> None:
    """End the workers and their descendants; return when none is left, or none can be killed.

    Args:
        workers: The workers, those that have ended too: their process groups may have not.
        family: Tells what else belongs to them.
        death_signal: What they are asked with.
        grace_s: How long they have, from now, before SIGKILL.
        urgent_fd: Ends their time as soon as it is readable.
    """
    deadline = time.monotonic() + grace_s
    asked = [worker for worker in workers if not worker.look()]
    if asked:
        family.members(os.getpid())  # while their parents live, which may be their only mark
    for worker in workers:
        worker.signal_group(death_signal)
        worker.signal_group(signal.SIGCONT)
    pending, urgent = wait_readable({worker.ended_fd for worker in asked}, deadline, urgent_fd)
    look: list[Process] = []
    if asked and not pending:
        look = family.members(os.getpid())
        groups = {worker.pid for worker in asked}
        pending, urgent = _wait_for_groups(groups, look, deadline, urgent_fd)
    if pending:
        for worker in asked:
            worker.signal_group(signal.SIGKILL)
    sweep = end_family(
        family,
        os.getpid,
        time.monotonic() + KILL_WAIT_S,
        death_signal,
        leave_s=0.0 if pending else _LEAVE_S,
        last_look=look,
    )
    reap(sweep.found, spare={worker.pid for worker in workers})
    # Only now: a console that takes nothing must not stand between a worker and its end.
    if pending:
        name = signal.Signals(death_signal).name
        late = f"{name} did not end all in {grace_s:g} s"
        reason = "another Ctrl-C (SIGINT or SIGQUIT) came" if urgent else late
        log.warning("%s: what was left of the workers was killed", reason)
    _abandon(sweep.stuck, family)


def end_family(
    family: Family,
    reaper: Callable[[], int],
    deadline: float,
    death_signal: int = signal.SIGKILL,
    leave_s: float = 0.0,
    last_look: Sequence[Process] = (),
) -> Sweep:
    """Kill what belongs, again and again until nothing alive is found twice in a row.

    The kernel lists processes one by one in the order of their ids. One look may thus miss a
    process that was forked meanwhile, with an id that had been passed, from one that is gone.
    Only system calls are made: the guardian calls this in a forked child.

    Args:
        family: Tells what belongs.
        reaper: Says who adopts the orphans: the agent while it lives.
        deadline: When to give up, by ``time.monotonic()``.
        death_signal: What they are asked with first.
        leave_s: How long they have to follow that before SIGKILL.
        last_look: What a look has just found, if there was one: it may have found nothing alive.
    """
    sweep = Sweep()
    sweep.found += last_look
    calm_looks = int(bool(last_look) and all(process.ended for process in last_look))
    while calm_looks < _CALM_LOOKS:
        members = family.members(reaper())
        sweep.found += members
        held = _hold(process for process in members if not process.ended)
        if not held:
            calm_looks += 1
            continue
        calm_looks = 0
        if leave_s > 0:
            _send(held, death_signal, signal.SIGCONT)
            wait_readable(held, min(deadline, time.monotonic() + leave_s))
            leave_s = 0.0
        else:
            _send(held, signal.SIGKILL)
            pending, _ = wait_readable(held, deadline)
            sweep.stuck = [held[pidfd] for pidfd in pending]
        close_all(held)
        if time.monotonic() >= deadline:
            break
    return sweep


def reap(processes: Iterable[Process], spare: Iterable[int] = ()) -> None:
    """Reap those of the processes that are children of ours and have ended.

    Args:
        processes: What may be reaped.
        spare: Process ids that must not be.
    """
    ourselves = os.getpid()
    pids = {process.pid: process.start for process in processes}
    for pid in pids.keys() - set(spare):
        now = read_process(pid)
        if now is not None and now.ended and (now.parent, now.start) == (ourselves, pids[pid]):
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def reap_adopted(family: Family) -> None:
    """Reap orphans that this process has adopted and that have ended."""
    for pid in read_adopted(os.getpid()):
        process = None if family.is_worker(pid) else read_process(pid)
        if process is not None and process.ended and family.has_orphan(process):
            reap([process])


def _wait_for_groups(
    groups: set[int], members: Iterable[Process], deadline: float, urgent_fd: int | None
) -> tuple[set[int], bool]:
    held = _hold(each for each in members if each.group in groups and not each.ended)
    waited = wait_readable(held, deadline, urgent_fd)
    close_all(held)
    return waited


def _abandon(processes: Sequence[Process], family: Family) -> None:
    for process in processes:
        family.abandon(process)
    if processes:
        log.warning(
            "pid %s: not ended %g s after SIGKILL; it must be stuck in the kernel (a GPU or a file "
            "system that does not answer), and is left behind",
            ", ".join(str(process.pid) for process in processes),
            KILL_WAIT_S,
        )


def _hold(processes: Iterable[Process]) -> dict[int, Process]:
    held: dict[int, Process] = {}
    for process in processes:
        try:
            pidfd = os.pidfd_open(process.pid)
        except OSError:  # it has ended
            continue
        now = read_process(process.pid)
        if now is not None and now.start == process.start and not now.ended:
            held[pidfd] = process
        else:  # it has ended, and another may have its pid by now
            os.close(pidfd)
    return held


def _send(pidfds: Iterable[int], *numbers: int) -> None:
    for pidfd in pidfds:
        for number in numbers:
            send_signal(pidfd, number)
