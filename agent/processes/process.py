"""Worker processes: how they stand, how they are signalled, when their pids may be used again."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
from abc import ABC, abstractmethod

from ...rendezvous.named_tuple import NamedTuple
from ..system.pidfd import close_all, send_signal, wait_any
from ..system.process_tree import read_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from typing import Any

    from .executor import StartWait
    from .exits import ExitRecorder
    from .guardian import Guardian
    from .results import StartFailed

LOST_EXIT_CODE = 255
"""Stands for an exit code that somebody else took from the kernel, as in ``asyncio``."""


class WorkerProcess:
    """A process that was started as a worker.

    Its end is observed without reaping it. So its process id, which is also the id of its process
    group and of its session, can't be given to anybody else before ``let_go``.

    Args:
        pid: Its process id.
        reap: Reaps it, once it has ended; by default as a child of this process.
        lost_exitcode: Says how it ended where the kernel won't tell: it is no child of ours, or
            somebody else has reaped it.
        ended_fd: A descriptor that becomes readable when it ends; by default a pidfd.

    Raises:
        OSError: There can be no more descriptors.
    """

    def __init__(
        self,
        pid: int,
        reap: Callable[[], object] | None = None,
        lost_exitcode: Callable[[], int | None] = lambda: LOST_EXIT_CODE,
        ended_fd: int | None = None,
    ) -> None:
        self.pid = pid
        self.exitcode: int | None = None
        self._reap = reap or self._reap_child
        self._lost_exitcode = lost_exitcode
        self._pidfd = _open_pidfd(pid)
        self.ended_fd = self._pidfd if ended_fd is None else ended_fd
        try:
            process = read_process(pid)
        except OSError:
            close_all({self._pidfd} - {-1})
            raise
        self.start = process.start if process else 0
        self._is_held = True
        self._lock = _thread.RLock()

    def look(self) -> bool:
        """Find out whether it has ended; if so, ``exitcode`` is set, to -n for signal n."""
        if self.exitcode is None:
            self.exitcode = self._ask()
        return self.exitcode is not None

    def signal_group(self, number: int) -> None:
        """Send a signal to its process group, ended or not, or to itself if it has none yet."""
        if not self._is_held:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)
            elif self._pidfd >= 0:
                send_signal(self._pidfd, number)

    def signal_alone(self, number: int) -> bool:
        """Send a signal to it, and to none of the processes that it has started.

        Any thread may do so, also while another one lets go of the process.

        Returns:
            Whether it still runs, for all that is known, so that its id is its own.
        """
        with self._lock:
            if not self._is_held or self.exitcode is not None:
                return False
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if self._pidfd >= 0:
                    send_signal(self._pidfd, number)
                else:
                    os.kill(self.pid, number)
            return True

    def let_go(self) -> None:
        """Reap it if it has ended, and close what was held of it."""
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        if self._pidfd < 0 and not self._is_held:
            return
        self._is_held = False
        if self.exitcode is not None:
            self._reap()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    def _reap_child(self) -> None:
        with contextlib.suppress(ChildProcessError):  # no child of ours, or not any more
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG)

    def _ask(self) -> int | None:
        try:
            end = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except OSError:  # no child of ours, or not any more
            exitcode = self._lost_exitcode()
            self._is_held = exitcode is None
            return exitcode
        if end is None:
            return None
        return end.si_status if end.si_code == os.CLD_EXITED else -end.si_status


class WorkerSetup(NamedTuple):
    """What a worker is started with.

    Args:
        environment: Its whole environment.
        stdout: What its standard output becomes; None: the agent's own.
        stderr: What its standard error becomes; None: the agent's own.
    """

    local_rank: int
    environment: dict[str, str]
    stdout: int | None
    stderr: int | None


class WorkerKind(ABC):
    """What starting workers means for one kind of them: commands, or functions."""

    @abstractmethod
    def _launch(self, starts: Sequence[WorkerSetup]) -> Iterable[WorkerProcess | StartFailed]:
        """Start some workers; ``_finish_start`` may be what finds that a program is missing.

        Returns:
            For each its process, or why it can't be started.

        Raises:
            ValueError: An argument can't be given to a process.
        """

    def _prepare(self) -> None:
        """Do what precedes the first start."""

    def _finish_start(self, start_wait: StartWait) -> Mapping[int, StartFailed]:
        """Do what follows the last start; return why processes have no program, by their ids."""
        return {}

    def _kill_unloaded(self) -> None:
        """Kill the processes that have not become what they were started for."""

    def _take_return_value(self, local_rank: int) -> Any:
        """Return what a worker that ended with 0 returned.

        Raises:
            ValueError: It can't be read back.
        """
        return None

    def _clean_up(self) -> None:
        """Give back what was held besides the processes."""


class WorkerTable:
    """The worker processes of one attempt, by local rank.

    Args:
        exits: Records how they end.
        envs: What is added to their environments, by local rank.
    """

    def __init__(self, exits: ExitRecorder, envs: Mapping[int, Mapping[str, str]]) -> None:
        self._exits = exits
        self._envs = envs
        self._processes: dict[int, WorkerProcess] = {}
        self._guardian: Guardian | None = None

    def begin(self, guardian: Guardian) -> None:
        """Let a guardian watch the processes that are about to be started."""
        self._guardian = guardian

    def add(self, local_rank: int, process: WorkerProcess) -> None:
        """Take up a process that was started."""
        self._processes[local_rank] = process
        if self._guardian is not None:
            self._guardian.watch(process.pid, process.start)

    def all(self) -> list[WorkerProcess]:
        """Return the processes that were started."""
        return list(self._processes.values())

    def pids(self) -> dict[int, int]:
        """Return their process ids, by local rank."""
        return {rank: process.pid for rank, process in self._processes.items()}

    def running(self) -> dict[int, WorkerProcess]:
        """Return those whose end is not recorded."""
        ended = self._exits.exits
        return {rank: each for rank, each in self._processes.items() if rank not in ended}

    def global_ranks(self) -> dict[int, str]:
        """Return the workers' global ranks, by process id."""
        return {
            process.pid: self._envs[rank].get("RANK", str(rank))
            for rank, process in self._processes.items()
        }

    def kill_at_once(self) -> int | None:
        """Kill those that still run, and what shares their sessions' process groups.

        Returns:
            The exit code of one that had failed by itself; None: none had.
        """
        codes = []
        for process in self._processes.values():
            if process.look():
                codes.append(process.exitcode)
            else:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        failed = [code for code in codes if code]
        asked = (-signal.SIGTERM, -signal.SIGKILL)
        return min(failed, key=lambda code: code in asked, default=None)

    def find_ended(self) -> dict[int, WorkerProcess]:
        """Return those that have ended, and whose end is not recorded; reap orphans.

        One ``poll`` tells which: to ask about each takes three times as long, at each end of one.
        """
        running = self.running()
        fds = wait_any([each.ended_fd for each in running.values() if each.ended_fd >= 0], 0.0)
        ended = {
            rank: each
            for rank, each in running.items()
            if (each.ended_fd < 0 or each.ended_fd in fds) and each.look()
        }
        if self._guardian is not None:
            with contextlib.suppress(OSError):  # there are no descriptors: at another look
                self._guardian.tree.reap_orphans()
        return ended

    def kill(self, pids: Collection[int]) -> None:
        """Kill some of those that run, each alone."""
        for local_rank, process in self.running().items():
            if process.pid in pids and process.signal_alone(signal.SIGKILL):
                self._exits.mark_killed([local_rank])

    def drop(self, failures: Mapping[int, StartFailed]) -> None:
        """Let go of processes that have not become programs, and record why.

        Args:
            failures: Why, by process id.
        """
        local_ranks = {pid: rank for rank, pid in self.pids().items()}
        for pid, failed in failures.items():
            self._let_go(self._processes.pop(local_ranks[pid]))
            self._exits.record(local_ranks[pid], 0, failed.exitcode, failed.reason)

    def let_go(self) -> None:
        """Record the ends that are not recorded, and let go of all processes."""
        for local_rank, process in self._processes.items():
            if local_rank not in self._exits.exits:
                if not process.look():  # stuck in the kernel, but killed
                    self._exits.mark_killed([local_rank])
                exitcode = -signal.SIGKILL if process.exitcode is None else process.exitcode
                with contextlib.suppress(OSError):  # no descriptors: the process is let go anyway
                    self._exits.record(local_rank, process.pid, exitcode)
            self._let_go(process)

    def _let_go(self, process: WorkerProcess) -> None:
        process.let_go()
        if self._guardian is not None:  # the process id may be another process's from now on
            self._guardian.forget(process.pid)


class WorkerProcesses:
    """Tells which processes the workers of one attempt are, by local rank, and signals them."""

    _workers: WorkerTable

    def pids(self) -> dict[int, int]:
        """Return the process ids by local rank, without those that could not be started."""
        return self._workers.pids()

    def running_pids(self) -> dict[int, int]:
        """Return the process ids of those that have not been seen to end, by local rank."""
        return {rank: process.pid for rank, process in self.running().items()}

    def running(self) -> dict[int, WorkerProcess]:
        """Return those that have not been seen to end, by local rank."""
        return self._workers.running()

    def signal_workers(self, number: int, *, to_group: bool = False) -> int:
        """Send a signal to each running worker; return how many there are.

        Args:
            number: The signal.
            to_group: Whether it goes to what shares the worker's process group as well.
        """
        running = self._workers.running().values()
        for process in running:
            (process.signal_group if to_group else process.signal_alone)(number)
        return len(running)

    def kill_workers(self, pids: Collection[int]) -> None:
        """Kill some of the running workers, without what they have started.

        Args:
            pids: Their process ids.
        """
        self._workers.kill(pids)

    def filenos(self) -> list[int]:
        """Return one descriptor for each running worker, readable once it has ended."""
        return [process.ended_fd for process in self._workers.running().values()]


def bind_to(cpus: Collection[int], pid: int = 0) -> None:
    """Bind a process that has one thread to CPUs, unless its container has lost them meanwhile.

    Args:
        cpus: Which ones.
        pid: Its process id; 0 is this process.
    """
    with contextlib.suppress(OSError):
        os.sched_setaffinity(pid, cpus)


def keep_exit_codes() -> None:
    """Undo an ignored SIGCHLD, with which the kernel would forget how our children end.

    It is inherited from whoever started this process, so that nobody asked for it here. Only the
    main thread may do that; from another, workers' exit codes stay unknown.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _open_pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:  # not a child of ours, and gone already
        return -1
