"""Where what ranks have printed can be read: log files, or what an agent has kept."""

from __future__ import annotations

import base64
import contextlib
import os
from typing import TYPE_CHECKING, Any, TypeAlias

from ...agent.elastic.output_keeper import MOST_ATTEMPTS
from ...agent.elastic.output_keeper import NAME as OUTPUT
from ...agent.failures.failure import HANG, STACKS_SUFFIX
from ...agent.failures.report import RankState
from ..commandline.arguments import Refusal
from ..report.records import read_record
from ..report.refusal import VerbRefusal
from ..report.runs import read_json
from ..terminal.phrases import DEPARTURE_TITLE, KERNEL_STACK_BEGINNING
from .log_lines import Lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..report.runs import Run
    from .asking import Agent
    from .ranks import WantedRanks

_CHUNK_BYTES = 1 << 16
_TOO_MANY_BYTES = 1 << 63
_Ends: TypeAlias = "dict[int, tuple[int, bytes, int | None]]"


class LogFile:
    """One log file, read from its beginning on; it may be cut or replaced meanwhile.

    Args:
        rank: The rank that prints there.

    Attributes:
        kind: The stream that is printed there.
        fault: Why it could not be read when that was tried last; "" if it could.
    """

    def __init__(self, path: str, rank: int, attempt: int) -> None:
        self.name = path
        self.rank = rank
        self.fault = ""
        self.kind = os.path.basename(path).partition(".")[0]
        self.title = f"attempt {attempt}, rank {rank}, {self.kind}"
        self._at = 0
        self._inode: int | None = None
        self._lines = Lines()

    def read(self, *, is_last: bool) -> Iterator[str]:
        """Yield the lines that have been added; of one without an end, what a quiet look finds.

        Args:
            is_last: Whether no more is read: a line without an end is one, too.
        """
        is_quiet = True
        while data := self._next_piece():
            is_quiet = False
            yield from self._lines.feed(data)
        if is_last:
            yield from self._lines.finish()
        elif is_quiet:
            yield from self._lines.beginning()

    def _next_piece(self) -> bytes:
        """Read on: a file is open for no longer, as a job may have thousands of them."""
        try:
            with open(self.name, "rb", buffering=0) as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._at:  # rotated, or emptied
                    self._inode, self._at = status.st_ino, 0
                file.seek(self._at)
                data = file.read(_CHUNK_BYTES)
        except OSError as error:
            self.fault = error.strerror or str(error)
            return b""
        except ValueError as error:  # a path with a null byte
            self.fault = str(error)
            return b""
        self.fault = ""
        self._at += len(data)
        return data


class KeptOutput:
    """What an agent has kept of what a rank has printed on a stream without a log file.

    Args:
        attempt: The number of the attempt; None: it is the one that runs.
    """

    def __init__(self, rank: int, attempt: int | None = None) -> None:
        self.rank = rank
        of = "" if attempt is None else f"attempt {attempt}, "
        self.title = f"{of}rank {rank}, its last words"
        self._seen = 0
        self._pid: int | None = None
        self._lines = Lines()
        self._pids: set[int] = set()
        self._pending: list[tuple[int, bytes, int | None]] = []

    def offer(self, printed: int, end: bytes, pid: int | None = None) -> None:
        """Take what the agent has kept.

        Args:
            printed: How many bytes the rank has printed in this attempt.
            end: The last of them.
            pid: The process id of the rank in this attempt; None: it is not known.
        """
        same = self._pending and self._pending[-1][2] == pid
        before = self._pending[:-1] if same else self._pending
        self._pending = [*before, (printed, end, pid)][-MOST_ATTEMPTS:]

    def is_over(self, pid: int | None) -> bool:
        """Return whether this is the process id of an attempt before the one that was read last."""
        return pid in self._pids and pid != self._pid

    def read(self, *, is_last: bool) -> Iterator[str]:
        """Yield the lines that have been added; of one without an end, what a quiet look finds."""
        pending, self._pending = self._pending, []
        new = 0
        for printed, end, pid in pending:
            if printed < self._seen or self._is_another(pid):  # a new attempt
                yield from self._lines.finish()
                self._seen = 0
            new = printed - self._seen
            self._seen = printed
            if pid is not None:
                self._pid = pid
                self._pids.add(pid)
            if new > len(end):
                yield from self._lines.finish()
                yield f"... {new - len(end)} bytes are not kept ...\n"
            if new:
                yield from self._lines.feed(end[-new:])
        if is_last:
            yield from self._lines.finish()
        elif not new:
            yield from self._lines.beginning()

    def _is_another(self, pid: int | None) -> bool:
        return pid is not None and self._pid is not None and pid != self._pid


class Sources:
    """All places where what a job's ranks print can be read.

    Args:
        agents: Their agents that can be asked.
    """

    def __init__(self, runs: Sequence[Run], agents: Sequence[Agent]) -> None:
        self._runs = runs
        self._agents = agents
        self._running: dict[int, KeptOutput] = {}
        self._ended: list[KeptOutput] = []
        self._known: set[tuple[str, int]] = set()
        self._is_first = True
        self.problem = ""
        """Why an agent that runs has not said what its ranks have printed."""

        self._files: dict[str, LogFile] = {}

    def look(self) -> list[LogFile | KeptOutput]:
        """Return them as they are known by now."""
        found: list[LogFile | KeptOutput] = []
        for run in self._runs:
            found += self._files_of(run)
        if self._is_first:  # attempts that end from now on are followed while they run
            self._is_first = False
            for run in self._runs:
                self._ended += self._kept_in(run)
        found += self._ended
        answers = [self._kept_by(agent) for agent in self._agents]
        if not any(answers):
            for run in self._runs if self._running else ():
                self._complete(run)
        found += self._running.values()
        if not found:
            self._ended = [kept for run in self._runs for kept in _reported_by(run)]
        return found or list(self._ended)

    def known_ranks(self) -> set[int]:
        """Return the ranks of all attempts on this host, whether they have printed anything."""
        ranks = {file.rank for file in self._files.values()}
        ranks |= {kept.rank for kept in (*self._ended, *self._running.values())}
        for run in self._runs:
            for attempt in run.reread().get("attempts") or ():
                ranks |= {int(each["rank"]) for each in attempt.get("ranks") or ()}
        return ranks

    def files(self, ranks: WantedRanks) -> list[LogFile]:
        """Return the log files of some ranks, whether they can be read."""
        return [file for file in self._files.values() if file.rank in ranks]

    def _files_of(self, run: Run) -> Iterator[LogFile]:
        record = run.reread()
        for number, attempt in enumerate(record.get("attempts") or ()):
            for rank in attempt.get("ranks") or ():
                for path in filter(None, (rank.get("stdout"), rank.get("stderr"))):
                    if path not in self._files:
                        self._files[path] = LogFile(path, int(rank["rank"]), number)
                    yield self._files[path]

    def _kept_in(self, run: Run) -> Iterator[KeptOutput]:
        """Yield what the agent has left of attempts that are over."""
        for number, ranks in _ends_in(run):
            self._known.add((run.folder, number))
            for rank, (printed, end, pid) in ranks.items():
                kept = KeptOutput(rank, number)
                kept.offer(printed, end, pid)
                yield kept

    def _kept_by(self, agent: Agent) -> bool:
        """Take what an agent has of the attempt that runs; return whether it has answered."""
        try:
            ranks = _ends_of(agent.ask("/output"))
        except VerbRefusal as refusal:
            if not agent.wait_for_end(0):
                self.problem = str(refusal)
            return False
        except ValueError:
            self.problem = (
                f"the answer of the agent of {agent.run.label} is not understood: is it one of "
                "another version?"
            )
            return False
        for rank, (printed, end, pid) in ranks.items():
            self._running.setdefault(rank, KeptOutput(rank)).offer(printed, end, pid)
        return True

    def _complete(self, run: Run) -> None:
        """Take what ranks that were followed have printed last, before their agent ended.

        An attempt that began and ended between two looks is among that.
        """
        for number, ranks in _ends_in(run):
            if (run.folder, number) in self._known:
                continue
            for rank, (printed, end, pid) in ranks.items():
                kept = self._running.get(rank)
                if kept is not None and not kept.is_over(pid):
                    kept.offer(printed, end, pid)


def _ends_in(run: Run) -> Iterator[tuple[int, _Ends]]:
    """Yield, of each attempt in its file, how much ranks printed, its end, and their pids."""
    kept = read_json(os.path.join(run.folder, OUTPUT)) or {}
    with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):  # it is not elrun's
        for attempt in kept["attempts"]:
            yield int(attempt["attempt"]), _ends_of(attempt)


def _ends_of(kept: Any) -> _Ends:
    """Return what an agent has kept of each rank: printed bytes, the last of them, the pid.

    Raises:
        ValueError: It has another form: that of another version of elrun, or of another program.
    """
    try:
        found = {
            int(name): (int(each["printed"]), base64.b64decode(each["end"]), each.get("pid"))
            for name, each in kept["ranks"].items()
        }
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"no ends of output: {error}") from error
    if not all(0 <= printed < _TOO_MANY_BYTES for printed, _, _ in found.values()):
        raise ValueError("no number of bytes that anybody has printed")
    return {
        rank: (printed, end, pid if isinstance(pid, int) else None)
        for rank, (printed, end, pid) in found.items()
    }


def _reported_by(run: Run) -> Iterator[KeptOutput]:
    """Yield what the report has of ranks that have failed: a traceback, or the last words."""
    try:
        report = read_record(run.folder).report
    except Refusal:  # there is none
        return
    root = report["root"]
    if root is not None and root.get("cause") == HANG:  # it has places and stacks only
        return
    words = {
        each["global_rank"]: each["words"]
        for each in report["ranks"]
        if each["state"] == RankState.FAILED.value and not each["file"].endswith(STACKS_SUFFIX)
    }
    if root is not None and _is_printed(root):
        words[root["global_rank"]] = root["traceback"]
    number = max(0, len(report["attempts"]) + report["attempts_left_out"] - 1)
    for rank, text in sorted(words.items()):
        if text:
            kept = KeptOutput(rank, number)
            kept.offer(len(text.encode()), text.encode())
            yield kept


def _is_printed(root: Mapping[str, Any]) -> bool:
    """Return whether a rank has printed what stands as its traceback: the hook prints no stack."""
    text = root["traceback"]
    return bool(text) and not (
        text.startswith((DEPARTURE_TITLE, KERNEL_STACK_BEGINNING))
        or root["file"].endswith(STACKS_SUFFIX)
    )
