"""Watches and stops a set of worker processes as one.

What a worker is made from differs: `commands` executes programs, `functions` runs Python functions.
How it is watched and stopped does not, and is here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time

from ...rendezvous.api.parameters import DICT, Kind, require, require_texts
from ..failures.failure import is_told_to_end
from ..output.specs import LogsSpecs, is_any_carried, is_end_kept
from ..system.environ import inherited_environment
from ..system.pidfd import NEVER, wait_any
from ..system.process_tree import MARK_VARIABLE, marked
from ..system.rlimits import Reserve, make_room_for
from .executor import StartWait
from .exits import ExitRecorder, WorkerFiles
from .guardian import Guardian
from .process import (
    WorkerKind,
    WorkerProcess,
    WorkerProcesses,
    WorkerSetup,
    WorkerTable,
    keep_exit_codes,
)
from .results import RunProcsResult, StartFailed
from .stop import KILL_WAIT_S, GroupStop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Any

    from ..output.outlets import JobOutput, Outlets
    from ..output.specs import LogsDest
    from ..system.wakeup import Urgency

_LAYOUT = Kind(("reify",), "a LogsSpecs")
_SOON_S = 0.02

_TOGETHER = 8
"""So many workers are started before the guardian hears of them; see ``Executor.execute_all``."""


class WorkerOutput:
    """The pipes for what the workers of one attempt print, where they need any.

    Args:
        name: What the workers are called: their role.
        logs: Where each stream goes.
        prefixes: What stands before each line of a worker that is shown, by local rank.
        filters: Words for lines of standard output, and of standard error, that are kept aside.
        job_output: Returns the output of the agent's attempts; without it, no end is kept.
    """

    def __init__(
        self,
        name: str,
        logs: LogsDest,
        nprocs: int,
        prefixes: dict[int, str] | None,
        filters: tuple[list[str] | None, list[str] | None],
        job_output: Callable[[], JobOutput] | None,
    ) -> None:
        self._logs = logs
        self._nprocs = nprocs
        self._filters = filters
        self._routes = (logs, nprocs, prefixes, name, filters)
        self._job_output = job_output
        self.outlets: Outlets | None = None
        """The pipes; None: none are open, or all output goes straight to the console."""

    def open(self) -> None:
        """Make the pipes, if any stream of any worker needs one.

        Raises:
            OSError: A pipe can't be made.
        """
        keeps_end = self._job_output is not None and is_end_kept(inherited_environment())
        of_stdout, of_stderr = map(bool, self._filters)
        if not keeps_end and not is_any_carried(
            self._logs, self._nprocs, filters_stdout=of_stdout, filters_stderr=of_stderr
        ):
            return
        from ..output.outlets import Outlets  # 1 ms; none is needed on a terminal

        if self._job_output is None:
            self.outlets = Outlets(*self._routes, keeps_end=False)
            return
        job = self._job_output()
        begin, on_end = job.wait_for_earlier(), job.wake
        self.outlets = Outlets(*self._routes, keeps_end=keeps_end, begin=begin, on_end=on_end)
        job.add(self.outlets)

    def fds(self, local_rank: int) -> tuple[int | None, int | None]:
        """Return a worker's standard output and standard error; None: it inherits the agent's."""
        if self.outlets is None:
            return None, None
        return self.outlets.stdout_fd(local_rank), self.outlets.stderr_fd(local_rank)

    def close(self) -> None:
        """Carry what is still in the pipes, and close them; without an agent, await the console.

        An agent goes on meanwhile: only the end of its job waits for the console.
        """
        if self.outlets is not None:
            self.outlets.drain()
            if self._job_output is None:
                self.outlets.join()


class PContext(WorkerFiles, WorkerProcesses, WorkerKind):
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
        _require_arguments(args, envs, logs_specs)
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
        filters = (duplicate_stdout_filters, duplicate_stderr_filters)
        self._output = WorkerOutput(
            name, self._logs, self.nprocs, log_line_prefixes, filters, job_output
        )
        self._cpus = cpus or {}
        self._given_guardian = guardian
        self._guardian: Guardian | None = None
        self._workers = WorkerTable(self._exits, envs)
        self._reserve: Reserve | None = None
        self._group_stop = GroupStop(self._workers, self._exits, self._kill_unloaded)
        self._agent = os.getpid()
        self._is_closed = False
        self._on_delay: Callable[[], object] = lambda: None

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
        self._on_delay = start_wait.on_begin
        keep_exit_codes()
        make_room_for(self.nprocs)
        self._guardian = self._given_guardian or Guardian.start()
        self._workers.begin(self._guardian)
        try:
            self._reserve = Reserve()
            self._prepare()
            self._output.open()
            inherited = marked(inherited_environment(), self._guardian.mark)
            for first in range(0, self.nprocs, _TOGETHER):
                if start_wait.is_unwanted():
                    break
                self._start_workers(range(self.nprocs)[first : first + _TOGETHER], inherited)
            start_wait.on_begin()
            self._workers.drop(self._finish_start(start_wait))
            if self._output.outlets is not None:
                self._output.outlets.start()
        except BaseException:
            self.close(signal.SIGKILL, KILL_WAIT_S)
            raise

    def look(self, *, stops_others: bool = False) -> RunProcsResult | None:
        """Look once, without waiting.

        Args:
            stops_others: Whether the others are asked to end, by SIGTERM, where what a failed
                worker left takes long to read, now or later: the caller is going to close them.

        Returns:
            What ended, once a worker has failed or all have succeeded; None where workers are
            still running or were stopped.
        """
        ended = self._workers.find_ended()
        codes = (process.exitcode for process in ended.values())
        # A signal that a scheduler sends to the workers reaches the agent, too; it passes that on.
        if stops_others and any(code and not is_told_to_end(code) for code in codes):
            self._group_stop.may_begin_early = True
        self._exits.record_all(ended)
        is_over = self._exits.have_failed or not self._workers.running()
        return self._exits.result() if is_over else None

    def wait(
        self,
        timeout: float = -1,
        period: float = 1,
    ) -> RunProcsResult | None:
        """Wait until a worker fails, then ``close``; or until all have succeeded, then ``leave``.

        Args:
            timeout: How many seconds at most; 0 looks once, a negative number waits for ever.
            period: Taken for the sake of torchrun's callers, without effect.

        Returns:
            What ended, or None where workers are still running or were stopped.
        """
        deadline = NEVER if timeout < 0 else time.monotonic() + timeout
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
        urgency: Urgency | None = None,
        alone: int | None = None,
    ) -> None:
        """Stop all workers with everything they started; afterwards ``exits`` tells of each.

        Args:
            death_sig: What they are asked with; SIGTERM by default.
            timeout: Seconds that they have together before SIGKILL.
            urgency: Ends their time as soon as it is readable.
            alone: A signal for the workers without what they started; see ``Stop``.
        """
        if not self._may_end():
            return
        ended: dict[int, WorkerProcess] = {}
        with contextlib.suppress(OSError):  # whatever can't be read: the workers are stopped
            ended = self._workers.find_ended()
        if self._guardian is not None:
            death_signal = death_sig or signal.SIGTERM
            stop = self._group_stop.begin(self._guardian.tree, ended, death_signal, alone)
            if stop.outlasts(_SOON_S):  # most end at once, and a thread costs a restart a moment
                self._on_delay()
                self._carry_meanwhile()
            self._group_stop.finish(stop, self._guardian, timeout, urgency)
        with contextlib.suppress(OSError):
            self._exits.record_all(ended)  # the signal has gone before any error file is read
            self._exits.record_all(self._workers.find_ended())
        self._finish()

    def kill_at_once(self) -> int | None:
        """Kill the workers, where nothing can be imported any more to stop them.

        Returns:
            The exit code of one that had failed by itself; None: none had.
        """
        return self._workers.kill_at_once()

    def ask_to_end(self, *, is_replaced: bool = False) -> None:
        """Ask the workers to end, by SIGTERM, and don't wait: ``close`` is about to follow.

        Args:
            is_replaced: Whether other workers follow at once: nobody asks why these end, and the
                caller calls ``tidy`` when the others have been started.
        """
        if self._guardian is not None and self._may_end():
            ended = self._workers.find_ended()
            if is_replaced:
                self._exits.stop_examining(ended)
            self._group_stop.begin(self._guardian.tree, ended, signal.SIGTERM)

    def _stop_if_wanted(self) -> None:
        """Ask the workers to end if one of them has failed, and its files take long to read."""
        if self._group_stop.may_begin_early and self._guardian is not None:
            if self._workers.running():
                self._carry_meanwhile()
            self._group_stop.begin(self._guardian.tree, self._workers.find_ended(), signal.SIGTERM)

    def _carry_meanwhile(self) -> None:
        """Have what is printed until all have ended shown at once, while the loop waits for it."""
        if self._output.outlets is not None:
            self._output.outlets.carry()

    def leave(self) -> None:
        """Let go of workers that have all succeeded; what they left running on purpose lives on."""
        if not self._may_end():
            return
        self._exits.record_all(self._workers.find_ended())
        _name_leftovers(self._guardian, self._workers)
        self._finish()

    def _may_end(self) -> bool:
        """Return whether there is anything to end, and free the descriptors that it takes."""
        if self._is_closed or os.getpid() != self._agent:  # not in a child that forked from here
            return False
        if self._reserve is not None:
            self._reserve.spend()
        return True

    def _finish(self) -> None:
        self._workers.let_go()
        if self._guardian is not None and self._guardian is not self._given_guardian:
            self._guardian.release()
        self._output.close()
        self._clean_up()
        self._is_closed = True
        if self._exits.examines:
            self.tidy()

    def tidy(self) -> None:
        """Remove files that workers have left and nobody needs, if all workers have been ended."""
        if self._is_closed:
            self._exits.tidy()

    def _start_workers(self, local_ranks: Sequence[int], inherited: Mapping[str, str]) -> None:
        mark = {MARK_VARIABLE: inherited[MARK_VARIABLE]}
        starts = [
            WorkerSetup(each, {**inherited, **self.envs[each], **mark}, *self._output.fds(each))
            for each in local_ranks
        ]
        for local_rank, started in zip(local_ranks, self._launch(starts), strict=True):
            if isinstance(started, StartFailed):
                self._exits.record(local_rank, 0, started.exitcode, started.reason)
            else:
                self._workers.add(local_rank, started)


def _name_leftovers(guardian: Guardian | None, workers: WorkerTable) -> None:
    """Name what the workers left running."""
    with contextlib.suppress(OSError):  # a program without descriptors has succeeded, too
        if guardian is not None and (found := guardian.tree.leftovers()):
            from .leftovers import ProcessNames, let_live  # few leave anything

            let_live(found, ProcessNames(workers.global_ranks(), guardian.mark))


def _require_arguments(args: Mapping[int, Any], envs: Mapping[int, Any], logs: LogsSpecs) -> None:
    require(DICT, args=args, envs=envs)
    require(_LAYOUT, logs_specs=logs)
    _require_local_ranks("args", args, len(args))
    _require_local_ranks("envs", envs, len(args))


def _require_local_ranks(what: str, mapping: Mapping[int, Any], nprocs: int) -> None:
    if not nprocs or mapping.keys() != set(range(nprocs)):
        raise RuntimeError(  # as in torch: programs may catch it
            f"{what}: give one entry for each local rank from 0 to {max(0, nprocs - 1)}, "
            f"not for {sorted(mapping)}"
        )
