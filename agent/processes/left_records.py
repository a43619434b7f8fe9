"""What the failed workers of one attempt left in files, and what of that nobody needs any more."""

from __future__ import annotations

import math

from ..failures.failure import KEPT_SUFFIX, NOT_AVAILABLE, STACKS_SUFFIX, Departure, ProcessFailure
from ..system.left_files import LeftFileReader, Reading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_MOST_OF_STACKS = 1 << 16
_MOST_OF_A_LONG = 1 << 63
_EXIT_CODES = 0xFF  # what is left of a number that a program ends itself with


class LeftRecords:
    """Reads what workers left, by local rank.

    Args:
        error_files: Where each leaves its error file.
        on_delay: Called when that takes long to read.

    Attributes:
        reader: The one reader of what they left, whose patience with file systems they all share.
    """

    def __init__(self, error_files: Mapping[int, str], on_delay: Callable[[], object]) -> None:
        self.reader = LeftFileReader(on_delay=on_delay)
        self._error_files = error_files
        self._times_at_end: dict[int, int] = {}
        self._known_files: list[str] = []

    def error_file_times(
        self, local_ranks: Iterable[int], at_most_s: float = math.inf
    ) -> dict[int, int]:
        """Return when workers wrote their error files, by local rank; 0: none that is known of.

        Args:
            local_ranks: Which of them are meant.
            at_most_s: How long the file system may take to answer this once.
        """
        ranks = list(local_ranks)
        known = self._times_at_end
        unknown = [rank for rank in ranks if rank not in known]
        if not unknown:
            return {rank: known[rank] for rank in ranks}
        files = [self._error_files.get(rank, "") for rank in unknown]
        times = self.reader.written_ns(files, at_most_s)
        found = known | dict(zip(unknown, times, strict=True))
        return {rank: found[rank] for rank in ranks}

    def read_ahead(self, exitcodes: Mapping[int, int]) -> dict[int, int | None]:
        """Read what ``failure_of`` will ask for; return when the error files were written.

        The kernel has ended these workers, so that what was read then need not be asked again.

        Args:
            exitcodes: Those of failed workers, by local rank.
        """
        from ..failures.error_record import MAX_ERROR_FILE_BYTES  # failures only

        chains = {}
        for local_rank, exitcode in exitcodes.items():
            if path := self._error_files.get(local_rank, ""):
                record = Reading(path, MAX_ERROR_FILE_BYTES)
                if exitcode < 0:
                    second = Reading(f"{path}{STACKS_SUFFIX}", _MOST_OF_STACKS, is_taken=True)
                else:
                    second = record._replace(path=f"{path}{KEPT_SUFFIX}")
                chains[local_rank] = (record, second)
        times = dict(zip(chains, self.reader.read_ahead(chains.values()), strict=True))
        self._times_at_end |= {rank: at_ns for rank, at_ns in times.items() if at_ns is not None}
        return times

    def failure_of(self, local_rank: int, pid: int, exitcode: int) -> ProcessFailure:
        """Return a failure with what the worker left in its files."""
        path = self._error_files.get(local_rank, "")
        failure = ProcessFailure.read_by(self.reader, local_rank, pid, exitcode, path)
        if failure.exit_status is not None:  # a function has left
            if exitcode >= 0:
                return self._departed(failure, path)
            failure = ProcessFailure.read_by(self.reader, local_rank, pid, exitcode, "")
        elif failure.error_file != NOT_AVAILABLE or not path:
            return failure
        if exitcode < 0:
            return self._with_stacks(failure, f"{path}{STACKS_SUFFIX}")
        # What a thread lost, or `sys.exit` was given, may be long ago: no reason for a signal.
        kept = f"{path}{KEPT_SUFFIX}"
        likely = ProcessFailure.read_by(self.reader, local_rank, pid, exitcode, kept)
        if likely.exit_status is not None:
            return self._departed(likely, kept)
        return failure if likely.error_file == NOT_AVAILABLE else likely

    def _departed(self, likely: ProcessFailure, file: str) -> ProcessFailure:
        """Return a failure of which a file tells only where the program ended itself."""
        ids = likely.local_rank, likely.pid, likely.exitcode
        failure = ProcessFailure.read_by(self.reader, *ids, "")
        if _exit_code_by(likely.exit_status or 0) == likely.exitcode:
            failure.departure = Departure(likely.summary, likely.traceback or "", likely.before)
        self._known_files.append(file)  # nothing names it: all that it says is known by now
        return failure

    def _with_stacks(self, failure: ProcessFailure, path: str) -> ProcessFailure:
        """Return a failure with what faulthandler wrote at the fatal signal, if it did."""
        file = self.reader.take_end(path, _MOST_OF_STACKS)
        if not file.text:
            return failure
        from ..failures.last_words import crash_in  # crashes only

        crash = crash_in(file.text.decode(errors="replace"), failure.exitcode)
        if crash.words:
            failure.error_file = path
            failure.message = {
                "message": crash.words,
                "extraInfo": {"py_callstack": crash.text, "timestamp": str(failure.timestamp)},
            }
            failure.error_file_data = {"message": failure.message}
        return failure

    def remove_needless(self, unread: Mapping[int, int]) -> None:
        """Remove files that nobody needs: they are empty, or all that they say is known.

        Args:
            unread: Exit codes of failed workers of which nothing has been read, by local rank.
        """
        if unread:
            self.read_ahead(unread)
        for local_rank, exitcode in unread.items():
            self.failure_of(local_rank, 0, exitcode)
        paths, self._known_files = self._known_files, []
        if paths:
            self.reader.remove(paths)


def _exit_code_by(status: int) -> int:
    """Return the exit code of a program that calls ``sys.exit`` with a number of any size."""
    is_long = -_MOST_OF_A_LONG <= status < _MOST_OF_A_LONG  # Python takes -1 for others
    return (status if is_long else -1) & _EXIT_CODES
