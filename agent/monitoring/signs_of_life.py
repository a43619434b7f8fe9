"""Signs that workers go on: CPU time, what they write, beats, and lines of their output."""

from __future__ import annotations

import contextlib
import mmap
import os
import re

from ...rendezvous.named_tuple import NamedTuple
from ...rendezvous.threads import Call
from ..system.process_states import descendants

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..processes.context import PContext

BUSY_SHARE = 0.01
"""Less of one CPU than this is what the threads of libraries use in a worker that waits."""

LEAST_CPU_S = 0.05

_UTIME, _CHILDREN_STIME = 11, 15  # in /proc/PID/stat after the command's name, see proc(5)
_MOST_DESCENDANTS = 1000
_MOST_BYTES = 4 << 20
_MOST_CHARS_OF_A_LINE = 2_000
_MOST_CHARS_OF_A_PART = 1_000
_FILE_S = 1.0


class Usage(NamedTuple):
    """What a worker has used since its start, with all that descends from it.

    Args:
        cpu_s: Seconds of CPU time.
        written: Bytes that it has written, to whatever file, pipe or terminal.
    """

    cpu_s: float
    written: int


def usage_of(pid: int) -> Usage:
    """Return what a worker has used; of what can't be read, nothing."""
    ticks, written = 0, 0
    for each in (pid, *descendants(pid, _MOST_DESCENDANTS)):
        fields = _read(f"/proc/{each}/stat").rpartition(b")")[2].split()
        ticks += sum(map(int, fields[_UTIME:_CHILDREN_STIME]))
        found = re.search(rb"^wchar: (\d+)$", _read(f"/proc/{each}/io"), re.MULTILINE)
        written += int(found[1]) if found else 0
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), written)


def has_gone_on(before: Usage, now: Usage, within_s: float) -> bool:
    """Return whether a worker has done more than wait.

    Args:
        before: What it had used.
        within_s: The time between.
    """
    used_s = now.cpu_s - before.cpu_s
    return now.written != before.written or used_s > max(LEAST_CPU_S, BUSY_SHARE * within_s)


class BeatCell:
    """The byte in which this node's workers leave their beats; see ``agent/workers/heartbeat.py``.

    Raises:
        OSError: There is no memory for it.
    """

    def __init__(self) -> None:
        self._fd = os.memfd_create("elrun-heartbeats", os.MFD_CLOEXEC)
        os.ftruncate(self._fd, 1)
        self._cell = mmap.mmap(self._fd, 1)

    @property
    def path(self) -> str:
        """Where workers find it."""
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    def take(self) -> bool:
        """Return whether a worker has left a beat since the last call."""
        has_beaten = self._cell[0] != 0
        self._cell[0] = 0
        return has_beaten

    def close(self) -> None:
        """Give it back."""
        self._cell.close()
        os.close(self._fd)


class _Part(NamedTuple):
    """The end of what a worker has printed: a line that has no end yet.

    Args:
        text: Its last characters.
        counted: Where in them the last match ends that has counted; -1: there was none.
    """

    text: str = ""
    counted: int = -1


class PatternWatch:
    """Looks for lines in the workers' output, also in one that has no end yet.

    Args:
        pattern: A regular expression; a line counts in which it is found.
    """

    def __init__(self, pattern: str) -> None:
        self.text = pattern
        self._pattern = re.compile(pattern)
        self._workers: PContext | None = None
        self._read: dict[str, int] = {}
        self._parts: dict[str, _Part] = {}
        self._call: Call[bool] | None = None

    def begin(self, workers: PContext) -> bool:
        """Look at these workers from now on; return whether any of their output can be seen."""
        self._workers, self._read, self._parts = workers, {}, {}
        return any(_log_files(workers)) or bool(workers.carried_output())

    def take(self) -> bool:
        """Return whether there was such a line since the last call.

        A thread reads the files, since their file system may not answer. What is carried is taken
        here: the agent's loop alone begins to carry.
        """
        workers = self._workers
        if self._call is None and workers is not None:
            printed = workers.carried_output()
            self._call = Call(lambda: self._look(workers, printed), "elrun-pattern", or_here=True)
        if self._call is None:
            return False
        if not self._call.wait(_FILE_S):
            return False
        call, self._call = self._call, None
        return call.result()

    def _look(self, workers: PContext, printed: Mapping[int, tuple[int, bytes]]) -> bool:
        found = [self._is_in(path, _new_of(path, self._read)) for path in _log_files(workers)]
        for rank, (total, end) in printed.items():
            name = f"rank {rank}"
            new = min(len(end), total - self._read.get(name, 0))
            self._read[name] = total
            found.append(self._is_in(name, end[len(end) - new :]))
        return any(found)

    def _is_in(self, name: str, chunk: bytes) -> bool:
        part = self._parts.pop(name, _Part())
        text = part.text + chunk.decode(errors="replace")
        *lines, last = text.replace("\r", "\n").split("\n")
        is_found, counted = False, part.counted
        for line in lines:
            is_found = self._end_of_match(line) > counted or is_found
            counted = -1
        end = self._end_of_match(last)
        cut = max(0, len(last) - _MOST_CHARS_OF_A_PART)
        self._parts[name] = _Part(last[cut:], max(end, counted, cut - 1) - cut)
        return is_found or end > counted

    def _end_of_match(self, line: str) -> int:
        """Return where the last match in a line ends; -1: there is none."""
        matches = self._pattern.finditer(line[:_MOST_CHARS_OF_A_LINE])
        return max((each.end() for each in matches), default=-1)


def _log_files(workers: PContext) -> Iterator[str]:
    for files in (workers.stdouts, workers.stderrs):
        yield from (path for path in files.values() if path not in ("", os.devnull))


def _new_of(path: str, read: dict[str, int]) -> bytes:
    """Return what a file has got since the last look: its end, if that is much."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(read.get(path, 0), size - _MOST_BYTES))
        chunk = file.read(_MOST_BYTES)
        read[path] = file.tell()
        return chunk
    return b""


def _read(path: str) -> bytes:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read()
    return b""
