"""Shows workers' output on a console that may be slower than they are, or stop for good.

Each console has a thread of its own, and what is to be shown waits in a queue. A console may lag
behind the log files as far as it likes while it takes something: what no longer fits into the queue
is only referred to, and read back from its log file when its turn comes. Once the console has taken
nothing for a while, there is a limit: what comes after the first megabyte of a stream is left out,
and a line at that place says so. A stream without a log file has nothing to lag behind: ``is_full``
says when its pipe is better left alone.

Beginnings of lines are shown as they come. What another worker prints meanwhile begins on a line of
its own, and so does the rest of a line that was interrupted.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from ...rendezvous.threads import start_thread
from .lines import LongLine, prefixed
from .sinks import LogFile, Sink
from .steps import end_of_piece

STUCK_S = 5.0
"""A console that takes nothing for so long counts as stuck."""

MAX_QUEUED_BYTES = 1024 * 1024
MAX_LAG_BYTES = 1024 * 1024
"""How much of each stream is kept for a console that is stuck."""

_ITEM_BYTES = 256  # what an item takes besides its text
_WRITE_BYTES = 64 * 1024
_LINE_END = re.compile(rb"\A(?:\r?\n|\r)")


class View:
    """One stream of one worker, as a console shows it.

    Args:
        name: What it is, for people: ``standard output of local rank 3``.
        prefix: What stands before each line.
    """

    def __init__(self, name: str, prefix: bytes, sink: Sink) -> None:
        self.name = name
        self.prefix = prefix
        self.sink = sink
        self.file: LogFile | None = None
        """Its log file, once that is open."""
        self.given_bytes = 0
        self.settled_bytes = 0
        self.last: _Item | None = None

    @property
    def can_lag(self) -> bool:
        """Whether the whole stream so far can be read back."""
        return self.file is not None and self.file.has_all

    @property
    def where(self) -> str:
        """Say where the stream can be read, for people."""
        return f"{self.file.name} has them" if self.file and self.can_lag else "they are lost"


class _Item:
    """A part of a stream: its bytes, or where they lie in the log file, or what is left out."""

    __slots__ = ("continues", "data", "ends", "follows", "is_left_out", "start", "stop", "view")

    def __init__(
        self, view: View, data: bytes | None, start: int, stop: int, *, continues: bool, ends: bool
    ) -> None:
        self.view = view
        self.data = data
        self.start = start
        self.stop = stop
        self.continues = continues
        self.ends = ends
        self.is_left_out = False
        self.follows = False  # another piece of the same part has just been written

    @property
    def cost_bytes(self) -> int:
        return _ITEM_BYTES + len(self.data or b"")


class Console:
    """One terminal, pipe or file, with the queue of what is to be written there.

    Args:
        name: What it is, for people.
        has_room: Called in the console's thread when ``is_full`` has become wrong.
        stuck_s: When it has taken nothing for so long, it counts as stuck.
        max_queued_bytes: What may wait in memory.
        begin: Called in the console's thread before it writes; it may block.
    """

    def __init__(
        self,
        name: str,
        has_room: Callable[[], None],
        stuck_s: float = STUCK_S,
        max_queued_bytes: int = MAX_QUEUED_BYTES,
        *,
        begin: Callable[[], object] = lambda: None,
    ) -> None:
        self._begin = begin
        self.name = name
        self._has_room = has_room
        self._stuck_s = stuck_s
        self._max_queued_bytes = max_queued_bytes
        self._changed = threading.Condition()
        self._queue: deque[_Item] = deque()
        self._queued_bytes = 0
        self._is_waited_for = False
        self._thread = threading.Thread(target=self._run, name="elrun-console", daemon=True)
        self._is_closing = False
        self._is_abandoned = False
        self._is_done = True
        self._writing_since: float | None = None
        self._held_return = b""
        self._line_of: View | None = None  # whose line has no end yet
        self._views: list[View] = []

    def start(self) -> None:
        """Begin to write; called once."""
        if self._views:
            self._is_done = False
            start_thread(self._thread)

    def add_view(self, name: str, prefix: bytes, sink: Sink) -> View:
        """Return a view for one stream of one worker."""
        view = View(name, prefix, sink)
        self._views.append(view)
        return view

    def show(self, view: View, part: bytes | LongLine, *, continues: bool, ends: bool) -> None:
        """Have the next part of a stream shown, once ``wake`` is called; return at once.

        Args:
            part: Its bytes; or where they lie in the view's log file.
            continues: Whether this goes on with a line whose beginning was shown.
            ends: Whether the part ends its last line.
        """
        size = part.stop - part.start if isinstance(part, LongLine) else len(part)
        with self._changed:
            start = view.given_bytes
            view.given_bytes += size
            has_bytes = not isinstance(part, LongLine)
            if view.can_lag and self._queued_bytes >= self._max_queued_bytes:
                has_bytes = False
            data = part if has_bytes and not isinstance(part, LongLine) else None
            item = _Item(view, data, start, start + size, continues=continues, ends=ends)
            if data is not None or not self._extend_last(item):
                self._append(item)

    def wake(self) -> None:
        """Have shown what was given to ``show``; return at once.

        Called once for what several pipes had: while this thread writes, the other one reads none.
        """
        if self._queue:
            with self._changed:
                self._changed.notify_all()

    def is_full(self) -> bool:
        """Return whether the queue is full; ``has_room`` is called once it isn't any more."""
        with self._changed:
            is_full = self._queued_bytes >= self._max_queued_bytes
            self._is_waited_for |= is_full
            return is_full

    def close(self) -> list[View]:
        """Wait until everything is shown, or the console is abandoned.

        Returns:
            The streams of which something is not shown, and never will be.
        """
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_done or self._is_abandoned)
            self._is_abandoned = True
            unsettled = [view for view in self._views if view.given_bytes > view.settled_bytes]
        if self._is_done and self._thread.is_alive():
            self._thread.join()
        return unsettled

    def abandon(self) -> None:
        """Show no more, and have ``close`` return at once."""
        with self._changed:
            self._is_abandoned = True
            self._changed.notify_all()

    @property
    def may_read_files(self) -> bool:
        """Whether, after ``close``, a log file may still be in use."""
        return not self._is_done and self._writing_since is None

    def _extend_last(self, item: _Item) -> bool:
        """Let a part that is in the log file go with the one before it, if that is there, too."""
        last = item.view.last
        if last is None or last.data is not None:
            return False
        last.stop, last.ends = item.stop, item.ends
        lag_stop = last.start + MAX_LAG_BYTES
        if not last.is_left_out and last.stop > lag_stop and self._is_stuck():
            item.start = last.stop = lag_stop
            item.is_left_out, last.ends = True, False
            self._append(item)
        return True

    def _append(self, item: _Item) -> None:
        self._queue.append(item)
        self._queued_bytes += item.cost_bytes
        item.view.last = item

    def _is_stuck(self) -> bool:
        since = self._writing_since
        return since is not None and time.monotonic() - since >= self._stuck_s

    def _run(self) -> None:
        try:
            self._begin()
            while (items := self._next()) is not None:
                self._write_items(items)
        finally:
            with self._changed:
                self._is_done = True
                self._changed.notify_all()

    def _next(self) -> list[_Item] | None:
        """Return what to write next: a few items with bytes, or one without."""
        items: list[_Item] = []
        size = 0
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._is_closing)
            if self._is_abandoned or not self._queue:
                return None
            while self._queue and size < _WRITE_BYTES:
                item = self._queue[0]
                if items and (item.data is None or item.view.sink is not items[0].view.sink):
                    break
                if item.data is None:
                    item = self._next_piece_of(item)
                else:
                    self._remove_first()
                items.append(item)
                size += item.cost_bytes
                if item.data is None:
                    break
            has_room = self._is_waited_for and self._queued_bytes <= self._max_queued_bytes // 2
            self._is_waited_for &= not has_room
        if has_room:
            self._has_room()
        return items

    def _remove_first(self) -> None:
        item = self._queue.popleft()
        self._queued_bytes -= item.cost_bytes
        if item.view.last is item:
            item.view.last = None

    def _next_piece_of(self, item: _Item) -> _Item:
        """Return some of what lies in the log file; the rest stays first in the queue."""
        stop = item.stop if item.is_left_out else min(item.stop, item.start + _WRITE_BYTES)
        is_last = stop == item.stop
        piece = _Item(
            item.view,
            None,
            item.start,
            stop,
            continues=item.continues,
            ends=item.ends and is_last,
        )
        piece.is_left_out, piece.follows = item.is_left_out, item.follows
        if is_last:
            self._remove_first()
        item.start, item.follows = stop, True
        return piece

    def _write_items(self, items: Sequence[_Item]) -> None:
        """Write what the items stand for, piece by piece."""
        text = b"".join(map(self._text_of, items))
        sink = items[0].view.sink
        start = 0
        while start < len(text):
            stop = end_of_piece(text, start, min(_WRITE_BYTES, sink.step_bytes()))
            self._writing_since = time.monotonic()
            sink.write(memoryview(text)[start:stop])
            self._writing_since = None
            start = stop
            if self._is_abandoned:
                return
        with self._changed:
            for item in items:
                item.view.settled_bytes = item.stop

    def _text_of(self, item: _Item) -> bytes:
        view = item.view
        if item.is_left_out:
            return self._notice(view, item.stop - item.start, view.where)
        if item.data is not None:
            return self._lines(item, item.data)
        data = b"".join(view.file.read_back(item.start, item.stop)) if view.file else b""
        missing_bytes = item.stop - item.start - len(data)
        text = self._lines(item, data)
        if missing_bytes:
            text += self._notice(view, missing_bytes, "its log file has been cut")
        return text

    def _lines(self, item: _Item, data: bytes) -> bytes:
        view = item.view
        data, self._held_return = self._held_return + data, b""
        if not item.ends and data.endswith(b"\r"):  # more of the log file follows: maybe "\n"
            data, self._held_return = data[:-1], b"\r"
        continues = (item.continues or item.follows) and self._line_of is view
        lead = b""
        if self._line_of is not None and not continues:
            lead = b"\n"
        elif item.continues and not item.follows and not continues:
            data = _LINE_END.sub(b"", data, count=1)  # the line was ended when it was interrupted
        self._line_of = view if data or continues else None
        if data.endswith((b"\n", b"\r")):
            self._line_of = None
        text = lead + (prefixed(data, view.prefix, continues=continues) if data else b"")
        if item.ends and self._line_of is not None:
            self._line_of = None
            text += b"\n"
        return text

    def _notice(self, view: View, size: int, where: str) -> bytes:
        lead = "" if self._line_of is None else "\n"
        self._line_of = None
        notice = f"{lead}elrun: {size} bytes of the {view.name} are left out here: {where}\n"
        return notice.encode("utf-8", "surrogateescape")
