"""What has become of the workers of one attempt: how each ended, and which files it left."""

from __future__ import annotations

import os
import signal
import time

from ...rendezvous.logs import Log
from ..failures.failure import NOT_AVAILABLE, ProcessFailure
from ..system.pidfd import NEVER
from .results import RunProcsResult, WorkerExit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from ..output.specs import LogsDest
    from ..system.left_files import LeftFile, LeftFileReader
    from .context import WorkerOutput
    from .left_records import LeftRecords
    from .own_ends import Disposition
    from .process import WorkerProcess

log = Log(__name__)

_OF_AN_EXCEPTION = 1  # Python's exit code

BEFORE_SIGNAL_S = 0.5
"""How long a file system may hold up the signal that asks workers to end."""


class ExitRecorder:
    """Records how workers end, by local rank.

    Args:
        nprocs: How many workers there are.
        logs: Where they leave their output and their error files.
        take_return_value: Returns what a worker that ended with 0 returned; raises ValueError if
            it can't be read back.
        on_delay: Called when what they left takes long to read.
    """

    def __init__(
        self,
        nprocs: int,
        logs: LogsDest,
        take_return_value: Callable[[int], Any],
        on_delay: Callable[[], object],
    ) -> None:
        self.exits: dict[int, WorkerExit] = {}
        self._nprocs = nprocs
        self._logs = logs
        self._take_return_value = take_return_value
        self._on_delay = on_delay
        self._records: LeftRecords | None = None
        self._failures: dict[int, ProcessFailure] = {}
        self._return_values: dict[int, Any] = {}
        self._marked: dict[int, str] = {}
        self._death_signals: dict[int, int] = {}
        self._dispositions: dict[int, Disposition] = {}
        self._killed: set[int] = set()
        self._failing: dict[int, int] = {}
        self._unexamined: dict[int, int] = {}
        self._ended_before: frozenset[int] = frozenset()
        self.examines = True
        """Whether it finds out why workers end."""

    @property
    def have_failed(self) -> bool:
        """Whether a worker has failed."""
        return bool(self._failures)

    @property
    def records(self) -> LeftRecords:
        """What workers left in files."""
        if self._records is None:
            from .left_records import LeftRecords  # failures and stops only

            self._records = LeftRecords(self._logs.error_files, self._on_delay)
        return self._records

    @property
    def left_files(self) -> LeftFileReader:
        """What reads what workers left."""
        return self.records.reader

    def stop_examining(self, ended: Iterable[int]) -> None:
        """Record from now on that workers end, and not why: another attempt is about to follow.

        Each counts as stopped. ``tidy`` looks into their files when there is time for it.

        Args:
            ended: Those that have ended by themselves, and whose end is not recorded yet: they
                are examined, and may have failed.
        """
        self.examines = False
        self._ended_before = frozenset(ended)

    def mark_failed(self, local_rank: int, reason: str) -> None:
        """Count the end of a worker as a failure, whatever its exit code.

        Args:
            local_rank: Which one.
            reason: Why, as the rest of a sentence; its error file, if there is one, says more.
        """
        self._marked[local_rank] = reason

    def mark_stopped(self, running: Mapping[int, WorkerProcess], death_signal: int) -> None:
        """Note how workers stand, just before they are asked to end: that may be no failure then.

        Args:
            running: Those that have not been seen to end, by local rank.
            death_signal: What they are about to be asked with.

        Raises:
            OSError: There are no descriptors to look closer.
        """
        if not self.examines:
            return
        for local_rank in running.keys() - self._marked.keys():
            self._death_signals[local_rank] = death_signal
        from .own_ends import disposition_of  # stops only

        written = self.records.error_file_times(running, BEFORE_SIGNAL_S)
        for local_rank, process in running.items():
            self._dispositions[local_rank] = disposition_of(process.pid, death_signal)
            # A worker that has left its error file already fails by itself, and only ends slowly.
            if written[local_rank] or process.look():
                self._death_signals.pop(local_rank, None)
            if written[local_rank]:
                self._failing[local_rank] = death_signal

    def mark_killed(self, local_ranks: Iterable[int]) -> None:
        """Note which of them got SIGKILL, or have to be given up after it."""
        for local_rank in local_ranks:
            self._killed.add(local_rank)
            if local_rank not in self._failing:
                self._death_signals.setdefault(local_rank, signal.SIGKILL)

    def record_all(self, ended: Mapping[int, WorkerProcess]) -> None:
        """Record how workers ended that were found by one look, the first failure first.

        Args:
            ended: The workers, by local rank.
        """
        # Of those that failed, the one that wrote its error file first failed first; one that a
        # signal killed left no word of when.
        failed = {rank: each.exitcode for rank, each in ended.items() if each.exitcode}
        written = self.records.read_ahead(failed) if failed and self.examines else {}
        for local_rank in sorted(ended, key=lambda rank: written.get(rank) or NEVER):
            process = ended[local_rank]
            self.record(local_rank, process.pid, process.exitcode or 0)

    def record(self, local_rank: int, pid: int, exitcode: int, reason: str = "") -> None:
        """Record how a worker ended.

        Args:
            local_rank: Which one.
            pid: Its process id; 0 for one that could not be started.
            exitcode: Its exit code, -n for signal n.
            reason: Why it failed, if that is known and it leaves no word itself.
        """
        is_marked_success = local_rank in self._marked and exitcode == 0
        if local_rank in self._marked:
            exitcode, reason = exitcode or 1, reason or self._marked[local_rank]
        if exitcode < 0 and self._is_of_the_stop(local_rank, -exitcode):
            exitcode = _OF_AN_EXCEPTION
        if exitcode == 0:
            try:
                self._return_values[local_rank] = self._take_return_value(local_rank)
            except (OSError, ValueError) as error:
                exitcode, reason = 1, str(error)
        failure = self._failure(local_rank, pid, exitcode, reason) if exitcode else None
        stopped = failure is not None and self._was_stopped(failure)
        ended_with = 0 if is_marked_success else exitcode
        marked = local_rank in self._marked
        self.exits[local_rank] = WorkerExit(pid, ended_with, time.monotonic(), stopped, marked)
        if failure is not None and not stopped:
            self._failures[local_rank] = failure
            log.info("local rank %d (pid %d) failed: %s", local_rank, pid, failure.summary)

    def _is_of_the_stop(self, local_rank: int, number: int) -> bool:
        """Return whether a signal of ours ended a worker that had left its exception already."""
        if local_rank not in self._failing:
            return False
        return number == self._failing[local_rank] or (
            number == signal.SIGKILL and local_rank in self._killed
        )

    def _failure(self, local_rank: int, pid: int, exitcode: int, reason: str) -> ProcessFailure:
        if not self._is_examined(local_rank):
            self._unexamined[local_rank] = exitcode
            return ProcessFailure.read_by(self.left_files, local_rank, pid, exitcode, "")
        failure = self.records.failure_of(local_rank, pid, exitcode)
        if reason and failure.error_file == NOT_AVAILABLE:
            failure.message = reason
        return failure

    def _is_examined(self, local_rank: int) -> bool:
        return self.examines or local_rank in self._ended_before

    def _was_stopped(self, failure: ProcessFailure) -> bool:
        if not self._is_examined(failure.local_rank):
            return True
        local_rank = failure.local_rank
        if local_rank not in self._death_signals:
            return False
        from .own_ends import Disposition, EndInStop, failed_by_itself  # stops only

        first = next(iter(self._failures.values()), None)
        end = EndInStop(
            failure.exitcode,
            self._death_signals[local_rank],
            self._dispositions.get(local_rank, Disposition.DECIDES),
            was_killed=local_rank in self._killed,
            message=_word_of(failure),
            first_message="" if first is None else _word_of(first),
        )
        return not failed_by_itself(end)

    def tidy(self) -> None:
        """Remove those of the workers' files that nobody needs: they are empty, or all is known."""
        unread, self._unexamined = self._unexamined, {}
        if self._records is not None:
            self._records.remove_needless(unread)

    def result(self) -> RunProcsResult | None:
        """Return what ended, once a worker has failed or all have succeeded; else None."""
        result = RunProcsResult(stdouts=dict(self._logs.stdouts), stderrs=dict(self._logs.stderrs))
        if self._failures:
            result.failures = dict(self._failures)
        elif len(self._return_values) == self._nprocs:
            result.return_values = {rank: self._return_values[rank] for rank in range(self._nprocs)}
        else:
            return None
        return result


class WorkerFiles:
    """Tells how the workers of one attempt ended, and which files they write, by local rank."""

    nprocs: int
    """How many workers there are."""

    _logs: LogsDest
    _exits: ExitRecorder
    _output: WorkerOutput

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

    def log_files(self, local_ranks: Iterable[int]) -> dict[int, str]:
        """Return log files by local rank: of standard error, else of output; those that say more.

        Args:
            local_ranks: Whose; a worker that has left no word in a file has "".
        """
        found = dict.fromkeys(local_ranks, "")
        for files in (self._logs.stderrs, self._logs.stdouts):
            named = {rank: files.get(rank, "") for rank, path in found.items() if not path}
            named = {rank: path for rank, path in named.items() if path not in ("", os.devnull)}
            if named:
                says = self._exits.left_files.say_something(named.values())
                found.update(
                    each for each, is_said in zip(named.items(), says, strict=True) if is_said
                )
        return found

    def end_of_log(self, local_rank: int, limit: int) -> LeftFile:
        """Return the end of what a worker printed: on standard error, else of its log file.

        Args:
            local_rank: Whose.
            limit: How many bytes are wanted.
        """
        if self._output.outlets is not None:
            printed = self._output.outlets.end_of(local_rank)
            if printed.text.strip():
                return printed
        (path,) = self.log_files([local_rank]).values()
        return self._exits.left_files.read_end(path, limit)

    def end_of_stdout(self, local_rank: int, limit: int) -> tuple[str, LeftFile]:
        """Return the log file of a worker's standard output, "" if there is none, and its end.

        Args:
            local_rank: Whose.
            limit: How many bytes are wanted.
        """
        path = self.stdouts[local_rank]
        if path == os.devnull:
            path = ""
        return path, self._exits.left_files.read_end(path, limit)

    def carried_output(self) -> dict[int, tuple[int, bytes]]:
        """Return how much workers have printed that has no log file, and its end, by local rank."""
        return {} if self._output.outlets is None else self._output.outlets.carried_output()

    def carried_bytes(self) -> dict[int, int]:
        """Return how much workers have printed that elrun carries; see ``Outlets``."""
        return {} if self._output.outlets is None else self._output.outlets.carried_bytes()

    def kept_ends(self) -> dict[int, tuple[bytes, float | None, int]]:
        """Return the last of what was read that has no log file; see ``Carrier.kept_ends``."""
        return {} if self._output.outlets is None else self._output.outlets.kept_ends()

    @property
    def is_written_to(self) -> bool:
        """Whether what workers left running still prints into their log files."""
        return self._output.outlets is not None and self._output.outlets.has_handed_on

    def error_file_times(self, local_ranks: Iterable[int]) -> dict[int, int]:
        """Return when workers wrote their error files; see ``LeftRecords``."""
        return self._exits.records.error_file_times(local_ranks)

    def error_file(self, local_rank: int) -> str:
        """Return the path of a worker's error file, or ``""``."""
        path = self._logs.error_files.get(local_rank, "")
        return "" if path == os.devnull else path

    @property
    def stdouts(self) -> dict[int, str]:
        """The file of each worker's standard output, by local rank; ``""``: there is none."""
        return {rank: self._logs.stdouts.get(rank, "") for rank in range(self.nprocs)}

    @property
    def stderrs(self) -> dict[int, str]:
        """The file of each worker's standard error, by local rank; ``""``: there is none."""
        return {rank: self._logs.stderrs.get(rank, "") for rank in range(self.nprocs)}

    @property
    def error_files(self) -> dict[int, str]:
        """Where each worker would leave its error file, by local rank; ``""``: nowhere."""
        return {rank: self._logs.error_files.get(rank, "") for rank in range(self.nprocs)}


def _word_of(failure: ProcessFailure) -> str:
    """Return what a worker left in its error file, or nothing."""
    return "" if failure.error_file == NOT_AVAILABLE else failure.summary
