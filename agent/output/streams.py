"""Takes one stream of one worker to its log file, to the console, and to the filtered file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from .console import Console, View
from .lines import PAUSE_S, LineCutter, LongLine, holds_any, matching
from .sinks import LOST, SHOWN, LogFile, Sink
from .specs import Std

LOST_BYTES = 64 << 10


class Stream:
    """One stream of one worker.

    Args:
        std: Which one.
        path: Its log file, or "".
        console: Where its lines are shown.
        view: How they are shown there; None: they aren't.
        mark: What stands before lines that are kept aside.
        words: Lines with one of these are kept aside.
        pause_s: The beginning of a line is shown when nothing has followed it for so long.
    """

    def __init__(
        self,
        std: Std,
        *,
        path: str,
        console: Console,
        view: View | None,
        mark: bytes,
        words: Sequence[bytes],
        pause_s: float = PAUSE_S,
    ) -> None:
        self.std = std
        self.path = path
        self._console = console
        self.view = view
        self._mark = mark
        self._words = words
        self._file: LogFile | None = None
        self._filtered: Sink | None = None
        self._cutter = LineCutter(pause_s=pause_s)
        self.carried_bytes = 0
        """How much the worker has printed on it so far."""

        self.lost_end = b""
        """The end of what its log file could not take; any thread may read it."""

    def open(self, open_file: Callable[[str, str], LogFile | None], filtered: Sink | None) -> None:
        """Open the log file.

        Args:
            open_file: Opens a file, or returns None where that can't be done; it is given the path,
                and what becomes of the output where the file can't be written.
            filtered: Takes the lines that are kept aside.
        """
        self._filtered = filtered
        if self.path and self.path != os.devnull:
            self._file = open_file(self.path, LOST if self.view is None else SHOWN)
        if self.view is not None:
            self.view.file = self._file

    @property
    def is_held_up(self) -> bool:
        """Whether its pipe is better left alone: its console is full, and no file has it all."""
        view = self.view
        return view is not None and not view.can_lag and self._console.is_full()

    @property
    def due_at(self) -> float | None:
        """When ``show_beginning`` is to be called, if no bytes come before."""
        return self._cutter.due_at if self.view is not None else None

    def take(self, chunk: bytes, now: float) -> None:
        """Pass on the next bytes.

        Args:
            chunk: The bytes.
            now: The time, by ``time.monotonic()``.
        """
        self.carried_bytes += len(chunk)
        if self._file is not None:
            self._file.write(chunk)
        if self.path not in ("", os.devnull) and (self._file is None or self._file.has_lost):
            self.lost_end = (self.lost_end + chunk)[-LOST_BYTES:]
        elif self.lost_end:  # the disk has room again
            self.lost_end = b""
        if self.view is not None or self._filtered is not None:
            shown_bytes = self._cutter.taken_bytes
            referable = self._file is not None and self._file.has_all
            for lines in self._cutter.feed(chunk, referable=referable, now=now):
                self._pass_on(lines, shown_bytes)
                shown_bytes = 0

    def show_beginning(self) -> None:
        """Show what there is of the line that has not ended."""
        continues = self._cutter.taken_bytes > 0
        beginning = self._cutter.take_beginning()
        if beginning is not None:
            self._show(beginning, continues=continues, ends=False)

    def finish(self) -> None:
        """Pass on the line that the end of the stream left without an end."""
        shown_bytes = self._cutter.taken_bytes
        last = self._cutter.finish()
        if last is not None:
            self._pass_on(last, shown_bytes, added_bytes=1)

    def _pass_on(self, lines: bytes | LongLine, shown_bytes: int, added_bytes: int = 0) -> None:
        """Pass on whole lines, of which some may have been shown, and some not be the worker's."""
        if isinstance(lines, LongLine):
            rest: bytes | LongLine = LongLine(lines.start + shown_bytes, lines.stop)
        else:
            rest = lines[shown_bytes : len(lines) - added_bytes]
        self._show(rest, continues=shown_bytes > 0, ends=True)
        if self._filtered is None:
            return
        if not isinstance(lines, LongLine):
            self._filtered.write(matching(lines, self._words, self._mark))
        elif self._file is not None and holds_any(self._file.read_back(*lines), self._words):
            _copy(self._file.read_back(*lines), self._filtered, self._mark)

    def _show(self, part: bytes | LongLine, *, continues: bool, ends: bool) -> None:
        if self.view is not None:
            self._console.show(self.view, part, continues=continues, ends=ends)


def _copy(pieces: Iterable[bytes], sink: Sink, prefix: bytes) -> None:
    sink.write(prefix)
    piece = b""
    for piece in pieces:
        sink.write(piece)
    if not piece.endswith(b"\n"):
        sink.write(b"\n")
