"""A worker's failure as a value, and the error that carries a job's failures to the caller."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from ...rendezvous.errors import ElrunError
from ...rendezvous.logs import Log
from ...rendezvous.named_tuple import NamedTuple
from ..plain_value import PlainValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..system.left_files import LeftFileReader
    from .report import JobReport

log = Log(__name__)

ERROR_FILE_VARIABLE = "TORCHELASTIC_ERROR_FILE"
"""Names the file in which a worker leaves the exception that ends it."""

KEPT_SUFFIX, STACKS_SUFFIX = ".kept", ".stacks"
"""What our hook in Python workers adds to the error file's name: for an exception that may not be
the one that ended the process, and for the stacks at a fatal signal."""

NOT_AVAILABLE = "<N/A>"
HANG = "hang"
"""The cause of an attempt that ``--hang-timeout`` ended."""

MOST_BASES = 30
"""How many bases of an exception's type are kept."""

_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_ONE_DAY_S = 86_400
_MOST_OF_A_CLAUSE = 500


def signal_name(exitcode: int) -> str:
    """Return the name of the signal that a negative exit code stands for (-9: SIGKILL)."""
    if exitcode >= 0:
        return NOT_AVAILABLE
    try:
        return signal.Signals(-exitcode).name
    except ValueError:
        if signal.SIGRTMIN <= -exitcode <= signal.SIGRTMAX:
            return f"SIGRTMIN+{-exitcode - signal.SIGRTMIN}"
        return f"signal {-exitcode}"


def end_of(exitcode: int) -> str:
    """Say what happened to a process that ended so: ``was killed by SIGSEGV``."""
    if exitcode < 0:
        return f"was killed by {signal_name(exitcode)}"
    return f"exited with code {exitcode}"


def shell_exit_code(exitcode: int) -> int:
    """Return the exit code that a shell would report: 128+n where signal n killed the process."""
    return 128 - exitcode if exitcode < 0 else exitcode


def is_told_to_end(exitcode: int) -> bool:
    """Return whether a process ended as programs do that a signal asks to end."""
    return shell_exit_code(exitcode) - 128 in _ENDING_SIGNALS


class Departure(NamedTuple):
    """How a program ended itself with an exit code, and said nothing of why.

    Args:
        words: What it did: ``called sys.exit(3)``.
        stack: The frames in which it did so, the innermost last; may be empty.
        before: Which of its threads had ended before, as a clause; may be empty.
    """

    words: str
    stack: str
    before: str = ""


class EndAlone(str):
    """A sentence that says no more of a failure than how the process ended."""

    __slots__ = ()


class ProcessFailure(PlainValue):
    """A failed worker.

    Args:
        local_rank: Its local rank.
        pid: Its process id.
        exitcode: Its exit code; -n when signal n killed it.
        error_file: Path of its error file; becomes ``<N/A>`` where it left none.

    Attributes:
        error_file_data: The error file's content.
        message: What went wrong: a sentence, or the error file's ``message`` object.
        timestamp: When, in seconds since the epoch: the error file's word, else now.
        departure: How and where the program ended itself with its exit code, if the hook knows no
            more than that; else None.
    """

    departure: Departure | None = None

    def __init__(self, local_rank: int, pid: int, exitcode: int, error_file: str) -> None:
        from ..system.left_files import LeftFileReader  # failures only

        self._fill_in(local_rank, pid, exitcode, error_file, LeftFileReader())

    @classmethod
    def read_by(
        cls, reader: LeftFileReader, local_rank: int, pid: int, exitcode: int, error_file: str
    ) -> ProcessFailure:
        """Return a failed worker whose error file a given reader reads."""
        failure = cls.__new__(cls)
        failure._fill_in(local_rank, pid, exitcode, error_file, reader)  # noqa: SLF001  its own
        return failure

    def _fill_in(
        self, local_rank: int, pid: int, exitcode: int, error_file: str, reader: LeftFileReader
    ) -> None:
        from .error_record import read_error_record  # failures only

        data, problem = read_error_record(error_file, reader)
        self.local_rank = local_rank
        self.pid = pid
        self.exitcode = exitcode
        self.error_file = NOT_AVAILABLE if data is None else error_file
        self.error_file_data: dict[str, Any] = data or {"message": "<NONE>"}
        self.message: Any = (data and data["message"]) or self._message_from_exit_code(problem)
        self.timestamp = int(time.time())
        if data is None:
            return
        said = self._extra_info().get("timestamp", data.get("timestamp"))
        with contextlib.suppress(TypeError, ValueError, OverflowError):  # a foreign writer's word
            moment = int(said)  # type: ignore[arg-type]  # whatever it is: int() decides
            if 0 <= moment <= self.timestamp + _ONE_DAY_S:  # seconds, not milliseconds
                self.timestamp = moment

    @property
    def summary(self) -> str:
        """What went wrong, in one line."""
        text = self.message
        if isinstance(text, dict):
            text = text.get("message") or ""
        lines = [line.strip() for line in str(text).splitlines() if line.strip()]
        if any("Traceback (most recent call last)" in line for line in lines[1:]):  # of a child's
            from .last_words import Speech, last_words_in  # few failures

            inner = last_words_in(str(text))
            reason = inner.words if inner.speech is Speech.TRACEBACK else lines[-1]
            return f"{lines[0].rstrip('.:')}: {reason}"
        if lines[1:] and lines[0].endswith(":"):  # the type alone
            from .last_words import first_paragraph  # few failures

            _, _, rest = str(text).partition(lines[0])
            return f"{lines[0]} {first_paragraph(rest.splitlines())}"
        return lines[0] if lines else self._message_from_exit_code()

    @property
    def says_why(self) -> bool:
        """Whether its message says more than how the process ended."""
        return bool(self.message) and not isinstance(self.message, EndAlone)

    @property
    def traceback(self) -> str | None:
        """The Python traceback, if the worker left one."""
        stack = self._extra_info().get("py_callstack")
        return str(stack) if stack else None

    @property
    def exception(self) -> str:
        """Full name of the exception's type, ``builtins.ValueError``, if the worker left it.

        torch's own record has the name without its module, before the message.
        """
        if (name := self._extra_info().get("type")) and isinstance(name, str):
            return name
        return type_before(self.summary) if self.traceback else ""

    @property
    def bases(self) -> tuple[str, ...]:
        """Full names of the types that the exception's type is derived from, if it left them."""
        names = self._extra_info().get("bases")
        return tuple(map(str, names))[:MOST_BASES] if isinstance(names, list) else ()

    @property
    def before(self) -> str:
        """Which of its threads an exception had ended before, as a clause; may be empty."""
        return str(self._extra_info().get("before") or "")[:_MOST_OF_A_CLAUSE]

    @property
    def exit_status(self) -> int | None:
        """The number by which the program ended itself, if its record tells no more than where."""
        status = self._extra_info().get("exit_status")
        return status if isinstance(status, int) else None

    @property
    def cause(self) -> str:
        """``hang`` where elrun has found that no rank goes on; else empty."""
        return HANG if self._extra_info().get("cause") == HANG else ""

    def signal_name(self) -> str:
        """Return the name of the signal that killed the worker, or ``<N/A>``."""
        return signal_name(self.exitcode)

    def timestamp_isoformat(self) -> str:
        """Return when it failed as local time, ``2026-11-20_12:00:00``."""
        from datetime import datetime, timezone  # failures only

        moment = datetime.fromtimestamp(self.timestamp, tz=timezone.utc).astimezone()
        return moment.replace(tzinfo=None).isoformat(sep="_")

    def _extra_info(self) -> dict[str, Any]:
        message = self.message if isinstance(self.message, dict) else {}
        extra = message.get("extraInfo")
        return extra if isinstance(extra, dict) else {}

    def _message_from_exit_code(self, problem: str = "") -> EndAlone:
        if self.exitcode < 0:
            name = self.signal_name()
            return EndAlone(f"Signal {-self.exitcode} ({name}) received by PID {self.pid}")
        file = f"; its error file {problem}" if problem else " and left no error file"
        return EndAlone(f"exited with code {self.exitcode}{file}")


def type_before(line: str) -> str:
    """Return the exception type in ``ValueError: text``, as Python prints it; may be empty."""
    name = line.partition(":")[0]
    return name if all(part.isidentifier() for part in name.split(".")) else ""


class ChildFailedError(ElrunError):
    """The job failed because workers did.

    Args:
        name: What was run.
        failures: At least one failed worker, by global rank.
        report: Every rank's end, for the failure summary.
    """

    def __init__(
        self, name: str, failures: dict[int, ProcessFailure], report: JobReport | None = None
    ) -> None:
        if not failures:
            raise ValueError("a ChildFailedError needs at least one failure")
        self.name = name
        self.failures = failures
        self.report = report
        super().__init__(self.format_msg())

    def get_first_failure(self) -> tuple[int, ProcessFailure]:
        """Return the root cause with its global rank: the report's, else the earliest failure."""
        if self.report is not None and self.report.root.global_rank in self.failures:
            rank = self.report.root.global_rank
        else:
            rank = min(self.failures, key=lambda r: self.failures[r].timestamp)
        return rank, self.failures[rank]

    def format_msg(self) -> str:
        """Return the root cause and the number of failures as a few lines of plain text."""
        rank, first = self.get_first_failure()
        killed, summary = "", first.summary
        if first.exitcode < 0:
            killed, summary = f" ({first.signal_name()})", _enrich(summary, first.error_file)
        end = "hung" if first.cause == HANG else f"exit code {first.exitcode}"
        job, moment = os.path.basename(self.name) or "job", first.timestamp_isoformat()
        lines = [
            f"{job} failed: rank {rank} (local rank {first.local_rank}, pid {first.pid}) "
            f"{end}{killed} at {moment}: {summary}"
            if rank >= 0
            else f"{job} failed at {moment}: {summary}"  # no worker did, but what they shared
        ]
        ranks = sorted(each for each in self.failures if each >= 0)
        if len(self.failures) > 1 and ranks:
            lines.append(f"{len(ranks)} rank{'s' * (len(ranks) > 1)} failed: {ranks}")
        if first.traceback:
            lines.append(first.traceback.rstrip())
        return "\n".join(lines)


def _enrich(summary: str, error_file: str) -> str:
    from . import record as handlers  # it imports this module

    try:
        return handlers.get_error_handler().maybe_enrich_signal_failure_message(summary, error_file)
    except Exception:  # a user's handler must not hide what happened
        log.warning("what is known of a killed worker could not be added to", exc_info=True)
        return summary
