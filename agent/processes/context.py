"""Watches and stops a set of worker processes as one.

What a worker is made from differs: `commands` executes programs, `functions` runs Python functions.
How it is watched and stopped does not, and is here.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import signal
import time
from abc import ABC, abstractmethod

from ...rendezvous.api.parameters import DICT, Kind, require, require_texts
from ...rendezvous.logs import Log
from ..failures.failure import is_told_to_end
from ..output.specs import LogsSpecs, is_any_carried, is_end_kept
from ..system.environ import inherited_environment
from ..system.pidfd import wait_any
from ..system.process_tree import MARK_VARIABLE, marked
from ..system.rlimits import Reserve, make_room_for
from .executor import StartWait
from .exits import ExitRecorder, WorkerFiles
from .guardian import Guardian
from .process import WorkerProcess, WorkerTable, keep_exit_codes
from .results import RunProcsResult, StartFailed
from .stop import KILL_WAIT_S, GroupStop, reap_adopted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

    from ..output.outlets import JobOutput, Outlets

log = Log(__name__)

_LAYOUT = Kind(("reify",), "a LogsSpecs")


class WorkerKind(ABC):
    """What starting workers means for one kind of them: commands, or functions."""

    @abstractmethod
    def _launch(
        self, local_rank: int, environment: dict[str, str], stdout: int | None, stderr: int | None
    ) -> WorkerProcess:
        """Start one worker; that there is no such program may be told by ``_finish_start``.

        Args:
            local_rank: Which one.
            environment: Its whole environment.
            stdout: What its standard output becomes; None: the agent's own.
            stderr: What its standard error becomes; None: the agent's own.

        Raises:
            StartFailed: Its process can't be started.
            ValueError: An argument can't be given to a process.
        """

    def _prepare(self) -> None:  # noqa: B027  most have nothing to do
        """Do what precedes the first start."""

    def _finish_start(self, start_wait: StartWait) -> Mapping[int, StartFailed]:  # noqa: ARG002
        """Do what follows the last start; return why processes have no program, by their ids."""
        return {}

    def _kill_unloaded(self) -> None:  # noqa: B027  forked ones load nothing
        """Kill the processes that have not become what they were started for."""

    def _take_return_value(self, local_rank: int) -> Any:  # noqa: ARG002  functions have one
        """Return what a worker that ended with 0 returned.

        Raises:
            ValueError: It can't be read back.
        """
        return None

    def _clean_up(self) -> None:  # noqa: B027  few hold anything
        """Give back what was held besides the processes."""


class PContext(WorkerFiles, WorkerKind):
    """The worker processes of one attempt on this node.

    Args:
        name: What the workers are called: their role.
        entrypoint: What they run.
        args: Its arguments by local rank.
        envs: What is added to the inherited environment, by local rank.
        logs_specs: Where their output goes.
        log_line_prefixes: What stands before each line of a worker that is shown, by local rank.
        duplicate_stdout_filters: Words; lines of standard output with one of them are kept aside.
        duplicate_stderr_filters: The same for standard error.
        guardian: The agent's guardian; by default the context has one of its own.
        cpus: CPUs that they are bound to, by local rank; the others may use any.
        job_output: Returns the output of the agent's attempts; without it, no end is kept.

    Raises:
        RuntimeError: ``args`` and ``envs`` are not for the same local ranks, from 0 on.
    """

    def __init__(
        self,
        name: str,
        entrypoint: Callable[..., Any] | str,
        args: Mapping[int, tuple[Any, ...]],
        envs: dict[int, dict[str, str]],
        logs_specs: LogsSpecs,
        log_line_prefixes: dict[int, str] | None = None,
        duplicate_stdout_filters: list[str] | None = None,
        duplicate_stderr_filters: list[str] | None = None,
        guardian: Guardian | None = None,
        cpus: Mapping[int, Collection[int]] | None = None,
        job_output: Callable[[], JobOutput] | None = None,
    ) -> None:
        require(DICT, args=args, envs=envs)
        require(_LAYOUT, logs_specs=logs_specs)
        _require_local_ranks("args", args, len(args))
        _require_local_ranks("envs", envs, len(args))
        require_texts(
            "a list of words",
            duplicate_stdout_filters=duplicate_stdout_filters,
            duplicate_stderr_filters=duplicate_stderr_filters,
        )
        self.name = name
        self.entrypoint = entrypoint
        self.args = args
        self.envs = envs
        self.nprocs = len(args)
        self._logs = logs_specs.reify(envs)
        self._exits = ExitRecorder(
            self.nprocs, self._logs, self._take_return_value, self._stop_if_wanted
        )
        self._shown = (log_line_prefixes, duplicate_stdout_filters, duplicate_stderr_filters)
        self._cpus = cpus or {}
        self._given_guardian = guardian
        self._job_output = job_output
        self._guardian: Guardian | None = None
        self._outlets: Outlets | None = None
        self._workers = WorkerTable(self._exits, envs)
        self._reserve: Reserve | None = None
        self._group_stop = GroupStop(self._workers, self._exits, self._kill_unloaded)
        self._agent = os.getpid()
        self._is_closed = False

    def start(self, start_wait: StartWait | None = None) -> None:
        """Start all workers, or none: if anything fails, those that were started are killed.

        A worker that can't be started for a reason of its own counts as failed instead.

        Args:
            start_wait: How it is waited for that their programs are loaded. Once they are unwanted,
                no more workers are started, and the caller is expected to close those that were.

        Raises:
            ValueError: An argument can't be given to a process.
            OSError: There can be no guardian, or no pipes for the output.
        """
        if self._guardian is not None:
            raise ValueError(f"the workers of {self.name!r} have been started already")
        if self._given_guardian is not None and self._given_guardian.is_released:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))  # which cost the last workers it
        start_wait = start_wait or StartWait()
        keep_exit_codes()
        make_room_for(self.nprocs)
        self._guardian = self._given_guardian or Guardian.start()
        try:
            self._reserve = Reserve()
            self._prepare()
            self._outlets = self._open_outlets()
            inherited = marked(inherited_environment(), self._guardian.mark)
            for local_rank in range(self.nprocs):
                if start_wait.is_unwanted():
                    break
                self._start_worker(local_rank, inherited, self._guardian)
            self._workers.drop(self._finish_start(start_wait), self._guardian.forget)
            if self._outlets is not None:
                self._outlets.start()
        except BaseException:
            self.close(signal.SIGKILL, KILL_WAIT_S)
            raise

    def pids(self) -> dict[int, int]:
        """Return the process ids by local rank, without those that could not be started."""
        return self._workers.pids()

    def running_pids(self) -> dict[int, int]:
        """Return the process ids of those that have not been seen to end, by local rank."""
        return {rank: process.pid for rank, process in self.running().items()}

    def running(self) -> dict[int, WorkerProcess]:
        """Return those that have not been seen to end, by local rank."""
        return self._workers.running()

    def signal_workers(self, number: int) -> int:
        """Send a signal to each running worker alone; return how many there are."""
        running = self._workers.running().values()
        for process in running:
            process.signal_alone(number)
        return len(running)

    def filenos(self) -> list[int]:
        """Return one descriptor for each running worker, readable once it has ended."""
        return [process.ended_fd for process in self._workers.running().values()]

    def look(self, *, stops_others: bool = False) -> RunProcsResult | None:
        """Look once, without waiting.

        Args:
            stops_others: Whether the others are asked to end, by SIGTERM, where what a failed
                worker left takes long to read, now or later: the caller is going to close them.

        Returns:
            What ended, once a worker has failed or all have succeeded; None where workers are
            still running or were stopped.
        """
        self._look(stops_others=stops_others)
        is_over = self._exits.have_failed or not self._workers.running()
        return self._exits.result() if is_over else None

    def wait(
        self,
        timeout: float = -1,
        period: float = 1,  # noqa: ARG002  nothing is polled here
    ) -> RunProcsResult | None:
        """Wait until a worker fails, then ``close``; or until all have succeeded, then ``leave``.

        Args:
            timeout: How many seconds at most; 0 looks once, a negative number waits for ever.
            period: Taken for the sake of torchrun's callers, without effect.

        Returns:
            What ended, or None where workers are still running or were stopped.
        """
        deadline = math.inf if timeout < 0 else time.monotonic() + timeout
        while self.look(stops_others=True) is None and self._workers.running():
            if time.monotonic() >= deadline:
                return None
            wait_any(self.filenos(), deadline)
        result = self._exits.result()
        if result is None or result.is_failed():
            self.close()
        else:
            self.leave()
        return self._exits.result()

    def close(
        self,
        death_sig: signal.Signals | None = None,
        timeout: float = 30,
        urgent_fd: int | None = None,
        alone: int | None = None,
    ) -> None:
        """Stop all workers with everything they started; afterwards ``exits`` tells of each.

        Args:
            death_sig: What they are asked with; SIGTERM by default.
            timeout: Seconds that they have together before SIGKILL.
            urgent_fd: Ends their time as soon as it is readable.
            alone: A signal for the workers without what they started; see ``Stop``.
        """
        if not self._may_end():
            return
        ended: dict[int, WorkerProcess] = {}
        with contextlib.suppress(OSError):  # whatever can't be read: the workers are stopped
            ended = self._find_ended()
        if self._guardian is not None:
            self._carry_meanwhile()
            death_signal = death_sig or signal.SIGTERM
            stop = self._group_stop.begin(self._guardian.tree, ended, death_signal, alone)
            self._group_stop.finish(stop, self._guardian, timeout, urgent_fd)
        with contextlib.suppress(OSError):
            self._exits.record_all(ended)  # the signal has gone before any error file is read
            self._look()
        self._finish()

    def kill_at_once(self) -> int | None:
        """Kill the workers, where nothing can be imported any more to stop them.

        Returns:
            The exit code of one that had failed by itself; None: none had.
        """
        return self._workers.kill_at_once()

    def ask_to_end(self) -> None:
        """Ask the workers to end, by SIGTERM, and don't wait: ``close`` is about to follow."""
        if self._guardian is not None and self._may_end():
            self._group_stop.begin(self._guardian.tree, self._find_ended(), signal.SIGTERM)

    def _stop_if_wanted(self) -> None:
        """Ask the workers to end if one of them has failed, and its files take long to read."""
        if self._group_stop.may_begin_early and self._guardian is not None:
            self._carry_meanwhile()
            self._group_stop.begin(self._guardian.tree, self._find_ended(), signal.SIGTERM)

    def _carry_meanwhile(self) -> None:
        """Have what workers print before they end shown at once, while the loop waits for them."""
        if self._outlets is not None and self._workers.running():
            self._outlets.carry()

    def leave(self) -> None:
        """Let go of workers that have all succeeded; what they left running on purpose lives on."""
        if not self._may_end():
            return
        self._look()
        _name_leftovers(self._guardian, self._workers)
        self._finish()

    @property
    def is_written_to(self) -> bool:
        """Whether what workers left running still prints into their log files."""
        return self._outlets is not None and self._outlets.has_handed_on

    def _may_end(self) -> bool:
        """Return whether there is anything to end, and free the descriptors that it takes."""
        if self._is_closed or os.getpid() != self._agent:  # not in a child that forked from here
            return False
        if self._reserve is not None:
            self._reserve.spend()
        return True

    def _finish(self) -> None:
        self._let_go()
        if self._outlets is not None:
            self._outlets.drain()
            if self._job_output is None:
                self._outlets.join()
        self._clean_up()
        self._is_closed = True

    def _open_outlets(self) -> Outlets | None:
        """Return what carries the workers' output; None: all of it goes straight to the console."""
        prefixes, *words = self._shown
        keeps_end = self._job_output is not None and is_end_kept(inherited_environment())
        filters = {"filters_stdout": bool(words[0]), "filters_stderr": bool(words[1])}
        if not keeps_end and not is_any_carried(self._logs, self.nprocs, **filters):
            return None
        from ..output.outlets import Outlets  # noqa: PLC0415  1 ms; none is needed on a terminal

        routes = (self._logs, self.nprocs, prefixes, self.name, (words[0], words[1]))
        if self._job_output is None:
            return Outlets(*routes, keeps_end=False)
        job = self._job_output()
        begin, on_end = job.wait_for_earlier(), job.wake
        outlets = Outlets(*routes, keeps_end=keeps_end, begin=begin, on_end=on_end)
        job.add(outlets)
        return outlets

    def _start_worker(
        self, local_rank: int, inherited: Mapping[str, str], guardian: Guardian
    ) -> None:
        mark = {MARK_VARIABLE: inherited[MARK_VARIABLE]}
        environment = {**inherited, **self.envs[local_rank], **mark}
        outlets = self._outlets
        try:
            stdout = None if outlets is None else outlets.stdout_fd(local_rank)
            stderr = None if outlets is None else outlets.stderr_fd(local_rank)
            process = self._launch(local_rank, environment, stdout, stderr)
        except StartFailed as failed:
            self._exits.record(local_rank, 0, failed.exitcode, failed.reason)
            return
        self._workers.add(local_rank, process)
        guardian.watch(process.pid, process.start)

    def _look(self, *, stops_others: bool = False) -> None:
        ended = self._find_ended()
        codes = (process.exitcode for process in ended.values())
        # A signal that a scheduler sends to the workers reaches the agent, too; it passes that on.
        if stops_others and any(code and not is_told_to_end(code) for code in codes):
            self._group_stop.may_begin_early = True
        self._exits.record_all(ended)

    def _find_ended(self) -> dict[int, WorkerProcess]:
        ended = self._workers.find_ended()
        if self._guardian is not None:
            with contextlib.suppress(OSError):  # there are no descriptors: at another look
                reap_adopted(self._guardian.tree)
        return ended

    def _let_go(self) -> None:
        guardian = self._guardian
        if guardian is None:
            return
        self._workers.let_go(guardian.forget)
        if guardian is not self._given_guardian:
            guardian.release()


def _name_leftovers(guardian: Guardian | None, workers: WorkerTable) -> None:
    """Name what the workers left running."""
    with contextlib.suppress(OSError):  # a program without descriptors has succeeded, too
        if guardian is not None and (found := guardian.tree.leftovers()):
            from .leftovers import ProcessNames, let_live  # noqa: PLC0415  few leave anything

            let_live(found, ProcessNames(workers.global_ranks(), guardian.mark))


def _require_local_ranks(what: str, mapping: Mapping[int, Any], nprocs: int) -> None:
    if not nprocs or mapping.keys() != set(range(nprocs)):
        raise RuntimeError(  # as in torch: programs may catch it
            f"{what}: give one entry for each local rank from 0 to {max(0, nprocs - 1)}, "
            f"not for {sorted(mapping)}"
        )
