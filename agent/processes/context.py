"""Watches and stops a set of worker processes as one.

What a worker is made from differs: `commands` executes programs, `functions` runs Python functions.
How it is watched and stopped does not, and is here.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from ...rendezvous.api.parameters import DICT, Kind, require, require_texts
from ..failures.failure import is_told_to_end
from ..output.specs import LogsSpecs, is_any_carried, is_end_kept
from ..system.environ import inherited_environment
from ..system.pidfd import wait_any
from ..system.process_tree import MARK_VARIABLE, marked
from ..system.rlimits import Reserve, make_room_for
from .executor import StartWait
from .exits import ExitRecorder, WorkerFiles
from .guardian import Guardian
from .process import WorkerProcess, keep_exit_codes
from .results import RunProcsResult, StartFailed, WorkerExit
from .stop import KILL_WAIT_S, Stop, reap_adopted

if TYPE_CHECKING:
    from ..output.outlets import Outlets
    from ..system.left_files import LeftFile

log = logging.getLogger(__name__)

_LAYOUT = Kind(("reify",), "a LogsSpecs")


class PContext(WorkerFiles, ABC):
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
        self._prefixes = log_line_prefixes
        self._filters = (duplicate_stdout_filters, duplicate_stderr_filters)
        self._cpus = cpus or {}
        self._given_guardian = guardian
        self._guardian: Guardian | None = None
        self._outlets: Outlets | None = None
        self._processes: dict[int, WorkerProcess] = {}
        self._reserve: Reserve | None = None
        self._stop: Stop | None = None
        self._stops_at_delay = False
        self._agent = os.getpid()
        self._is_closed = False
        self._has_shown_all_output = False
        self.is_written_to = False
        """Whether what workers left running still prints into their log files."""

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
            self._drop(self._finish_start(start_wait), self._guardian)
            if self._outlets is not None:
                self._outlets.start()
        except BaseException:
            self.close(signal.SIGKILL, KILL_WAIT_S)
            raise

    def pids(self) -> dict[int, int]:
        """Return the process ids by local rank, without those that could not be started."""
        return {rank: process.pid for rank, process in self._processes.items()}

    def running_pids(self) -> dict[int, int]:
        """Return the process ids of those that have not been seen to end, by local rank."""
        return {rank: process.pid for rank, process in self._running().items()}

    def filenos(self) -> list[int]:
        """Return one descriptor for each running worker, readable once it has ended."""
        return [process.ended_fd for process in self._running().values()]

    def mark_failed(self, local_rank: int, reason: str) -> None:
        """Count the end of a worker as a failure, whatever its exit code: it is ended for a reason.

        Args:
            local_rank: Which one.
            reason: Why, as the rest of a sentence; its error file, if there is one, says more.
        """
        self._exits.mark_failed(local_rank, reason)

    @property
    def exits(self) -> dict[int, WorkerExit]:
        """How workers have ended, by local rank, in the order in which that was seen."""
        return self._exits.exits

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
        is_over = self._exits.have_failed or not self._running()
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
        while self.look(stops_others=True) is None and self._running():
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
    ) -> None:
        """Stop all workers with everything they started; afterwards ``exits`` tells of each.

        Args:
            death_sig: What they are asked with; SIGTERM by default.
            timeout: Seconds that they have together before SIGKILL.
            urgent_fd: Ends their time as soon as it is readable.
        """
        if self._is_closed or os.getpid() != self._agent:  # not in a child that forked from here
            return
        if self._reserve is not None:
            self._reserve.spend()
        ended: dict[int, WorkerProcess] = {}
        with contextlib.suppress(OSError):  # whatever can't be read: the workers are stopped
            ended = self._find_ended()
        if self._guardian is not None:
            stop = self._begin_stop(self._guardian, ended, death_sig or signal.SIGTERM)
            self._finish_stop(self._guardian, stop, timeout, urgent_fd)
        with contextlib.suppress(OSError):
            self._exits.record_all(ended)  # the signal has gone before any error file is read
            self._look()
        self._finish()

    def _begin_stop(
        self, guardian: Guardian, ended: Mapping[int, WorkerProcess], death_signal: int
    ) -> Stop:
        """Ask the workers to end, unless they have been asked so already."""
        self._stops_at_delay = False
        if self._stop is None or self._stop.death_signal != death_signal:
            running = {rank: each for rank, each in self._running().items() if rank not in ended}
            if self._stop is None:
                with contextlib.suppress(OSError):  # whatever can't be read: they are stopped
                    self._exits.mark_stopped(running, death_signal)
            self._kill_unloaded()
            self._stop = Stop(list(self._processes.values()), guardian.family, death_signal)
        return self._stop

    def _stop_if_wanted(self) -> None:
        """Ask the workers to end if one of them has failed, and its files take long to read."""
        if self._stops_at_delay and self._guardian is not None:
            self._begin_stop(self._guardian, self._find_ended(), signal.SIGTERM)

    def _finish_stop(
        self, guardian: Guardian, stop: Stop, grace_s: float, urgent_fd: int | None
    ) -> None:
        try:
            killed = stop.finish(grace_s, urgent_fd, self._ranks())
            self._exits.mark_killed(
                rank for rank, process in self._processes.items() if process.pid in killed
            )
        except OSError as error:  # there are no descriptors to look around with; it has some
            guardian.finish()
            log.warning(
                "what the workers had started could not be looked for (%s): the guardian killed it",
                error.strerror,
            )

    def leave(self) -> None:
        """Let go of workers that have all succeeded; what they left running on purpose lives on."""
        if self._is_closed or os.getpid() != self._agent:
            return
        if self._reserve is not None:
            self._reserve.spend()
        self._look()
        is_left = False
        with contextlib.suppress(OSError):  # a program without descriptors has succeeded, too
            is_left = self._guardian is not None and self._name_leftovers(self._guardian)
        self._finish(hands_on=is_left)

    def _name_leftovers(self, guardian: Guardian) -> bool:
        """Name what the workers left running; return whether there is anything."""
        if not (found := guardian.family.leftovers()):
            return False
        from .leftovers import ProcessNames, let_live  # noqa: PLC0415  few workers leave anything

        return let_live(found, ProcessNames(self._ranks(), guardian.mark))

    @property
    def has_shown_all_output(self) -> bool:
        """Whether the workers are closed, and the console has taken all that it was to show."""
        return self._has_shown_all_output

    def _finish(self, *, hands_on: bool = False) -> None:
        self._let_go()
        if self._outlets is not None:
            self._outlets.drain(hands_on=hands_on)
            self.is_written_to = hands_on and self._outlets.has_files
        self._has_shown_all_output = self._outlets is None or self._outlets.has_shown_all
        self._clean_up()
        self._is_closed = True

    def _ranks(self) -> dict[int, str]:
        """Return the workers' global ranks by process id."""
        ranks = {rank: env.get("RANK", str(rank)) for rank, env in self.envs.items()}
        return {process.pid: ranks[rank] for rank, process in self._processes.items()}

    def _open_outlets(self) -> Outlets | None:
        stdout_filters, stderr_filters = self._filters
        keeps_end = is_end_kept(2, inherited_environment())
        if not keeps_end and not is_any_carried(
            self._logs,
            self.nprocs,
            filters_stdout=bool(stdout_filters),
            filters_stderr=bool(stderr_filters),
        ):
            return None
        from ..output.outlets import Outlets  # noqa: PLC0415  1 ms; none is needed on a terminal

        return Outlets(
            self._logs, self.nprocs, self._prefixes, self.name, self._filters, keeps_end=keeps_end
        )

    def end_of_log(self, local_rank: int, limit: int) -> LeftFile:
        """Return the end of what a worker printed: on standard error, else of its log file."""
        if self._outlets is not None:
            printed = self._outlets.end_of(local_rank)
            if printed.text.strip():
                return printed
        return super().end_of_log(local_rank, limit)

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
        self._processes[local_rank] = process
        guardian.watch(process.pid, process.start)

    def _drop(self, failures: Mapping[int, StartFailed], guardian: Guardian) -> None:
        ranks = {process.pid: rank for rank, process in self._processes.items()}
        for pid, failed in failures.items():
            self._processes.pop(ranks[pid]).let_go()
            guardian.forget(pid)
            self._exits.record(ranks[pid], 0, failed.exitcode, failed.reason)

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

    def _prepare(self) -> None:
        """Do what precedes the first start."""

    def _finish_start(self, start_wait: StartWait) -> Mapping[int, StartFailed]:  # noqa: ARG002
        """Do what follows the last start; return why processes have no program, by their ids."""
        return {}

    def _kill_unloaded(self) -> None:
        """Kill the processes that have not become what they were started for."""

    def _take_return_value(self, local_rank: int) -> Any:  # noqa: ARG002  functions have one
        """Return what a worker that ended with 0 returned.

        Raises:
            ValueError: It can't be read back.
        """
        return None

    def _clean_up(self) -> None:
        """Give back what was held besides the processes."""

    def _running(self) -> dict[int, WorkerProcess]:
        return {rank: each for rank, each in self._processes.items() if rank not in self.exits}

    def _look(self, *, stops_others: bool = False) -> None:
        ended = self._find_ended()
        codes = [process.exitcode or 0 for process in ended.values()]
        # A signal that a scheduler sends to the workers reaches the agent, too; it passes that on.
        has_failed = any(code and not is_told_to_end(code) for code in codes)
        self._stops_at_delay = self._stops_at_delay or (stops_others and has_failed)
        self._exits.record_all(ended)

    def _find_ended(self) -> dict[int, WorkerProcess]:
        ended = {rank: each for rank, each in self._running().items() if each.look()}
        if self._guardian is not None:
            with contextlib.suppress(OSError):  # there are no descriptors: at another look
                reap_adopted(self._guardian.family)
        return ended

    def _let_go(self) -> None:
        for local_rank, process in self._processes.items():
            if local_rank not in self.exits:
                if not process.look():  # stuck in the kernel, but killed
                    self._exits.mark_killed([local_rank])
                exitcode = -signal.SIGKILL if process.exitcode is None else process.exitcode
                with contextlib.suppress(OSError):  # no descriptors: the process is let go anyway
                    self._exits.record(local_rank, process.pid, exitcode)
            process.let_go()
            if self._guardian is not None:
                self._guardian.forget(process.pid)
        if self._guardian is not None and self._guardian is not self._given_guardian:
            self._guardian.release()


def _require_local_ranks(what: str, mapping: Mapping[int, Any], nprocs: int) -> None:
    if not nprocs or mapping.keys() != set(range(nprocs)):
        raise RuntimeError(  # as in torch: programs may catch it
            f"{what}: give one entry for each local rank from 0 to {max(0, nprocs - 1)}, "
            f"not for {sorted(mapping)}"
        )
