"""Stops a worker group: the workers, and everything that came from them.

The death signal goes to each worker's process group, SIGCONT after it for those that are suspended,
and to what workers that have ended left behind in groups of its own. What a worker that still runs
has started in a session of its own is the worker's to stop: it is asked when the worker has ended.
All share one deadline, at which SIGKILL follows, and whoever it hit is named: a process that is no
worker may be saving a checkpoint as well. Then the system is looked at round by round until nothing
more is found. Every wait is bounded: a process in uninterruptible sleep can't be killed, and is
reported.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from ...rendezvous.logs import Log
from ..system.pidfd import close_all, hold_processes, send_signal, wait_readable
from ..system.process_tree import Process, ProcessTree, reap
from .process import WorkerProcess, WorkerTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from ..system.wakeup import Urgency
    from .exits import ExitRecorder
    from .guardian import Guardian

log = Log(__name__)

KILL_WAIT_S = 10.0
"""How long a process may take to end after SIGKILL."""

_LEAVE_S = 0.25
"""How long that has to follow the death signal which is found at the deadline, or in the end."""

_CALM_LOOKS = 2


class Sweep:
    """What ``end_tree`` met.

    Attributes:
        found: Every process that it found, those that had ended before with them.
        stuck: The processes that could not be killed in time.
    """

    __slots__ = ("found", "stuck")

    def __init__(self) -> None:
        self.found: list[Process] = []
        self.stuck: list[Process] = []


class Stop:
    """One stop of a worker group: the workers are asked to end at once, and waited for later.

    Args:
        workers: The workers, those that have ended too: their process groups may have not.
        tree: Tells what else belongs to them.
        alone: What the workers alone are asked with first; what they started is asked, with the
            death signal, when all of them have ended, or at the deadline. None: all at once.
    """

    def __init__(
        self,
        workers: Sequence[WorkerProcess],
        tree: ProcessTree,
        death_signal: int,
        alone: int | None = None,
    ) -> None:
        self.death_signal = death_signal
        self._workers = workers
        self._tree = tree
        self._asked_at = time.monotonic()
        self._running = [worker for worker in workers if not worker.look()]
        self._groups = {worker.pid for worker in workers}
        self._asked: set[tuple[int, int]] = set()
        self._spares_helpers = alone is not None
        self._is_over = False
        if alone is not None:
            for worker in self._running:
                worker.signal_alone(alone)
                worker.signal_alone(signal.SIGCONT)
            return
        look: list[Process] = []
        with contextlib.suppress(OSError):  # there are no descriptors, and the signal needs none
            look = tree.members(os.getpid())  # while their parents live, perhaps their only mark
        for worker in workers:
            worker.signal_group(death_signal)
            worker.signal_group(signal.SIGCONT)
        unasked = [each for each in look if each.group not in self._groups]
        running = {each.pid for each in self._running}
        with contextlib.suppress(OSError):
            self._asked = _ask(without_manager(unasked, look, running), death_signal)

    def outlasts(self, seconds: float) -> bool:
        """Wait for all for a moment; return whether a worker, or what one left, still runs then."""
        deadline = time.monotonic() + seconds
        fds = {each.ended_fd for each in self._running if not each.look()}
        if wait_readable(fds, deadline)[0]:
            return True
        if self._has_none_left():
            return False
        with contextlib.suppress(OSError):  # no descriptors: `finish` won't wait either
            members = self._tree.members(os.getpid())
            held = hold_processes(each for each in members if not each.ended)
            pending, _ = wait_readable(held, deadline)
            close_all(held)
            return bool(pending)
        return False

    def finish(
        self,
        grace_s: float,
        urgency: Urgency | None = None,
        ranks: Mapping[int, str] | None = None,
    ) -> set[int]:
        """End the workers and their descendants; return when none is left, or none can be killed.

        Args:
            grace_s: How long they have, since they were asked, before SIGKILL.
            urgency: Ends their time as soon as it is readable.
            ranks: The workers' global ranks by process id, to name what had to be killed.

        Returns:
            The ids of the processes that got SIGKILL.

        Raises:
            OSError: There are no descriptors to look around with. The workers have been asked, or
                killed at the deadline; what they started may live on.
        """
        if self._has_none_left():
            return set()
        fd = None if urgency is None else urgency.fileno()
        is_late, is_urgent = self._wait(self._asked_at + grace_s, fd)
        late, names = [], None
        name = signal.Signals(self.death_signal).name
        not_in_time = f"{name} did not end all in {grace_s:g} s"
        if is_late:
            with contextlib.suppress(OSError):  # it is only about names
                from .leftovers import ProcessNames  # most workers end in time

                late = [each for each in self._tree.members(os.getpid()) if not each.ended]
                names = ProcessNames(ranks or {}, self._tree.mark)
                names.note(late)
            if self._spares_helpers and not is_urgent:
                self._ask_groups()
                running = {each.ended_fd for each in self._running if not each.look()}
                wait_readable(running, time.monotonic() + _LEAVE_S)
                late = self._still_running(late)
                not_in_time = f"not all had ended in {grace_s:g} s, nor {_LEAVE_S:g} s after {name}"
            for worker in self._workers:
                worker.signal_group(signal.SIGKILL)
        sweep = end_tree(
            self._tree,
            os.getpid,
            time.monotonic() + KILL_WAIT_S,
            self.death_signal,
            leave_s=0.0 if is_urgent else _LEAVE_S,
            calm_looks=int(not is_late),
        )
        reap(sweep.found, spare=self._groups)
        # Only now: a console that takes nothing must not stand between a worker and its end.
        if names is not None and late:
            reason = urgency.reason if urgency and is_urgent else not_in_time
            log.warning("%s: killed: %s", reason, names.describe(late))
        _abandon(sweep.stuck, self._tree)
        return {process.pid for process in late}

    def _has_none_left(self) -> bool:
        """Return whether it is certain that all have ended; once it is, it stays so."""
        if not self._is_over and all(each.look() for each in self._running):
            with contextlib.suppress(OSError):  # there are no descriptors: further looks may have
                self._is_over = self._tree.is_certainly_over()
        return self._is_over

    def _still_running(self, late: list[Process]) -> list[Process]:
        with contextlib.suppress(OSError):  # no descriptors: all of them count as killed
            running = {each.key for each in self._tree.members(os.getpid()) if not each.ended}
            return [each for each in late if each.key in running]
        return late

    def _ask_groups(self) -> None:
        """Ask what the workers have started, after their end or at the deadline."""
        for worker in self._workers:
            worker.signal_group(self.death_signal)
            worker.signal_group(signal.SIGCONT)

    def _wait(self, deadline: float, urgent_fd: int | None) -> tuple[bool, bool]:
        """Wait until all have ended, or time is up.

        Returns:
            Whether some have not, and whether that is because it became urgent.
        """
        fds = {each.ended_fd for each in self._running if not each.look()}
        pending, urgent = wait_readable(fds, deadline, urgent_fd)
        if self._spares_helpers and not pending:
            self._ask_groups()
        while not pending:
            members = [each for each in self._tree.members(os.getpid()) if not each.ended]
            others = [each for each in members if each.group not in self._groups]
            self._asked |= _ask(
                (each for each in others if each.key not in self._asked), self.death_signal
            )
            held = hold_processes(members)
            if not held:
                return False, False
            pending, urgent = wait_readable(held, deadline, urgent_fd)
            close_all(held)
        return True, urgent


def without_manager(
    candidates: Iterable[Process], members: Iterable[Process], running: set[int]
) -> list[Process]:
    """Return the processes that no running worker looks after.

    Args:
        candidates: Those that are asked about.
        members: All that belong to the workers.
        running: Process ids of the workers that run: what descends from them is theirs to stop.
    """
    parents = {process.pid: process for process in members}

    def is_managed(process: Process | None) -> bool:
        seen: set[int] = set()  # parents that were read at different times may form a ring
        while process is not None and process.pid not in seen:
            if process.pid in running or process.session in running:
                return True
            seen.add(process.pid)
            process = parents.get(process.parent)
        return False

    return [process for process in candidates if not is_managed(process)]


def end_tree(
    tree: ProcessTree,
    reaper: Callable[[], int],
    deadline: float,
    death_signal: int = signal.SIGKILL,
    leave_s: float = 0.0,
    calm_looks: int = 0,
) -> Sweep:
    """Kill what belongs, again and again until nothing alive is found twice in a row.

    The kernel lists processes one by one in the order of their ids. One look may thus miss a
    process that was forked meanwhile, with an id that had been passed, from one that is gone.
    Only system calls are made: the guardian calls this in a forked child.

    Args:
        tree: Tells what belongs.
        reaper: Says who adopts the orphans: the agent while it lives.
        deadline: When to give up, by ``time.monotonic()``.
        death_signal: What they are asked with first.
        leave_s: How long they have to follow that before SIGKILL.
        calm_looks: How many looks have just found nothing alive.
    """
    sweep = Sweep()
    while calm_looks < _CALM_LOOKS:
        members = tree.members(reaper())
        sweep.found += members
        held = hold_processes(process for process in members if not process.ended)
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


def _ask(processes: Iterable[Process], death_signal: int) -> set[tuple[int, int]]:
    """Send the death signal to processes, one by one; return which these are."""
    held = hold_processes(process for process in processes if not process.ended)
    _send(held, death_signal, signal.SIGCONT)
    close_all(held)
    return {process.key for process in held.values()}


def _abandon(processes: Sequence[Process], tree: ProcessTree) -> None:
    for process in processes:
        tree.abandon(process)
    if processes:
        log.warning(
            "pid %s: not ended %g s after SIGKILL; it must be stuck in the kernel (a GPU or a file "
            "system that does not answer), and is left behind",
            ", ".join(str(process.pid) for process in processes),
            KILL_WAIT_S,
        )


def _send(pidfds: Iterable[int], *numbers: int) -> None:
    for pidfd in pidfds:
        for number in numbers:
            send_signal(pidfd, number)


class GroupStop:
    """Stops one group of workers, and marks which of them ended by that.

    Args:
        exits: Records how they end.
        kill_unloaded: Kills the processes that have not become what they were started for.
    """

    def __init__(
        self, workers: WorkerTable, exits: ExitRecorder, kill_unloaded: Callable[[], None]
    ) -> None:
        self._workers = workers
        self._exits = exits
        self._kill_unloaded = kill_unloaded
        self._stop: Stop | None = None
        self.may_begin_early = False
        """Whether a worker has failed, so that the others may be asked before files are read."""

    def begin(
        self,
        tree: ProcessTree,
        ended: Collection[int],
        death_signal: int,
        alone: int | None = None,
    ) -> Stop:
        """Ask the workers to end, unless they have been asked so already.

        Args:
            tree: Tells what else belongs to them.
            ended: Local ranks of those that had ended by themselves.
            alone: See ``Stop``; if it is 0, each end counts as the worker's own.
        """
        self.may_begin_early = False
        if self._stop is None or self._stop.death_signal != death_signal:
            running = self._workers.running()
            others = {rank: each for rank, each in running.items() if rank not in ended}
            if self._stop is None and alone != 0:
                with contextlib.suppress(OSError):  # whatever can't be read: they are stopped
                    self._exits.mark_stopped(others, death_signal)
            self._kill_unloaded()
            self._stop = Stop(self._workers.all(), tree, death_signal, alone)
        return self._stop

    def finish(
        self, stop: Stop, guardian: Guardian, grace_s: float, urgency: Urgency | None
    ) -> None:
        """Wait until all have ended, and kill what has not in time; see ``Stop.finish``."""
        try:
            killed = stop.finish(grace_s, urgency, self._workers.global_ranks())
        except OSError as error:  # there are no descriptors to look around with; it has some
            guardian.finish()
            log.warning(
                "what the workers had started could not be looked for (%s): the guardian killed it",
                error.strerror,
            )
        else:
            pids = self._workers.pids().items()
            self._exits.mark_killed(rank for rank, pid in pids if pid in killed)
