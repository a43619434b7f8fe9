"""The pipes of one attempt's workers: each carries one stream of one worker."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Sequence

from .console import Console, View
from .sinks import LOST, LogFile, Sink
from .specs import LogsDest, Std, route_of
from .streams import Stream

PIPE_BYTES = 256 * 1024
"""How much each pipe holds, where the user's share of such memory is not used up."""

_NAMES = {Std.OUT: "standard output", Std.ERR: "standard error"}


class WorkerPipes:
    """Opens the pipes, and the files that they lead to.

    Args:
        dest: Where each stream goes; `specs.route_of` says how it is read.
        marks: What stands before each line of a worker, by local rank.
        pause_s: The beginning of a line is shown when nothing has followed it for so long.
    """

    def __init__(self, dest: LogsDest, marks: Sequence[bytes], pause_s: float) -> None:
        self._dest = dest
        self._marks = marks
        self._pause_s = pause_s
        self.streams: dict[int, Stream] = {}
        """What each pipe carries, by the descriptor that is read."""
        self._streams_of: list[tuple[int, Stream]] = []
        self._filtered: dict[Std, str] = {}
        self._files: list[LogFile] = []
        self._workers_ends: dict[tuple[Std, int], int] = {}

    def open(self, std: Std, words: Sequence[bytes], console: Console, sink: Sink) -> None:
        """Open the pipes of one stream of all workers, as far as it has to be carried.

        Args:
            words: Lines with one of these are kept aside.
            sink: What the console writes to.

        Raises:
            OSError: There are no descriptors.
        """
        name = "filtered_stdout" if std is Std.OUT else "filtered_stderr"
        # A plug-in's destination may be torch's own class, which has no such files in torch 2.9.
        self._filtered[std] = getattr(self._dest, name, "") if words else ""
        for local_rank, mark in enumerate(self._marks):
            route = route_of(self._dest, std, local_rank, filtered=bool(words))
            if route is None:
                continue
            key = (std, local_rank)
            if not (route.path or route.on_console or words):
                self._workers_ends[key] = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
                continue
            fd, self._workers_ends[key] = os.pipe2(os.O_CLOEXEC)
            view: View | None = None
            if route.on_console:
                whose = f"{_NAMES[std]} of local rank {local_rank}"
                view = console.add_view(whose, mark if route.has_prefix else b"", sink)
            stream = self.streams[fd] = Stream(
                std,
                path=route.path,
                console=console,
                view=view,
                mark=mark,
                words=words,
                pause_s=self._pause_s,
            )
            self._streams_of.append((local_rank, stream))
            os.set_blocking(fd, False)
            with contextlib.suppress(OSError):  # the user's share of pipe memory is used up
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def workers_end(self, std: Std, local_rank: int) -> int | None:
        """Return what a stream of a worker must become, None where it inherits the agent's."""
        return self._workers_ends.get((std, local_rank))

    def carried_bytes(self) -> dict[int, int]:
        """Return how much each worker has printed that is carried, by local rank."""
        found: dict[int, int] = {}
        for local_rank, stream in self._streams_of:
            found[local_rank] = found.get(local_rank, 0) + stream.carried_bytes
        return found

    def lost_end(self, local_rank: int) -> bytes:
        """Return the end of a worker's standard error that its log file could not take."""
        for rank, stream in self._streams_of:
            if rank == local_rank and stream.std is Std.ERR:
                return stream.lost_end
        return b""

    def open_files(self, open_file: Callable[[str, str], LogFile | None]) -> None:
        """Open the log files.

        Args:
            open_file: Opens one, or returns None where that can't be done; see ``Stream.open``.
        """

        def open_and_keep(path: str, fate: str = LOST) -> LogFile | None:
            file = open_file(path, fate)
            if file is not None:
                self._files.append(file)
            return file

        filtered = {std: open_and_keep(path) for std, path in self._filtered.items() if path}
        for stream in self.streams.values():
            stream.open(open_and_keep, filtered.get(stream.std))

    def close_workers_ends(self) -> None:
        """Leave the writing ends to the workers: a pipe ends when its last writer has ended."""
        for fd in self._workers_ends.values():
            os.close(fd)
        self._workers_ends.clear()

    def close(self) -> None:
        """Close the pipes that are left."""
        for fd in self.streams:
            os.close(fd)
        self.streams.clear()

    def close_files(self) -> None:
        """Close the log files."""
        for file in self._files:
            file.close()
        self._files.clear()
