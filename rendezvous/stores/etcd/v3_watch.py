"""Waits for keys of etcd v3: a stream for each key that a node waits for, all read by one thread.

A wait reads its keys. If one is missing, the wait becomes a ``Watch``: the values so far, and the
revision from which on a stream reports the keys. The store's thread opens and reads the streams. If
a member is in trouble, it opens them anew at the next one; each watch then begins at its next
revision, so no event is lost. A member of a round waits for the verdict only, and has one stream.

A watch whose wait is over goes on until the node waits for other keys: a node that waits again for
the same keys, as nodes do that look up every two seconds, costs etcd nothing.

*What a stream may keep back.* Some proxies hand a stream on only when they have gathered some
kilobytes, and a router may have forgotten an idle connection. So all keys are read anew whenever
the lease is refreshed, and more often while etcd has not confirmed a stream.

Locks: ``_lock`` guards the list of watches and their hearers. Only the store's thread changes the
values of a watch, and opens, reads and closes streams.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Sequence

from ...errors import RendezvousConnectionError, RendezvousError, RendezvousRoundOverError
from ...logs import Log
from ..store import as_wait
from .etcd_store import Snapshot
from .failover import Failover, Refused, Unreachable
from .v3_client import Gateway
from .v3_stream import Event, Range, WatchStream, open_stream

log = Log(__name__)

COUNTED = b"\x00"
"""Stands between a counter's name and an amount: see ``v3.py``."""

AFTER_COUNTERS = b"\x01"
"""Behind a name, it sorts after that counter's amounts and before every other key."""

_HELD_UP_S = 0.5
_MESSAGE_S = 0.1
"""How long the rest of a message may take whose first bytes have come."""
_SHORT_LIFE_S = 1.0
_PAUSE_S = 0.2

Outcome = list[bytes] | RendezvousError | None
"""The values, or why there will be none."""

Hear = Callable[[Outcome], None]


class Watch:
    """Some keys that are watched until each of them has a value.

    Args:
        keys: At least one.
    """

    def __init__(self, keys: Sequence[str], prefix: bytes, snapshot: Snapshot) -> None:
        self.keys = tuple(keys)
        self.hearers: list[Hear] = []
        self.must_read = False
        """Whether the keys must be read anew, as an event does not say what they hold."""
        self.stream: WatchStream | None = None
        """Reports the keys; only the store's thread uses it."""
        self.opened_at = 0.0
        self.is_over = False
        """Whether no wait will be answered by it any more."""
        self.error: RendezvousError | None = None
        """Why the keys will never be there."""
        self._wanted = frozenset(keys)
        names = [prefix + key.encode(errors="surrogateescape") for key in keys]
        self._first, self._end = min(names), max(names) + AFTER_COUNTERS
        self._prefix = prefix
        self.reset(snapshot)

    @property
    def outcome(self) -> list[bytes] | RendezvousError:
        """The values in the order of the keys, of which each has one; or why there are none."""
        return self.error or [self.values[key] for key in self.keys]

    @property
    def range(self) -> Range:
        """What the stream has to report."""
        return Range(self._first, self._end, self._next_revision)

    @property
    def is_complete(self) -> bool:
        """Whether each key has a value, or will never have one."""
        return self.error is not None or len(self.values) == len(self._wanted)

    def reset(self, snapshot: Snapshot) -> None:
        """Take what was read."""
        self.values, revision = dict(snapshot[0]), snapshot[1]
        self._next_revision = revision + 1
        self.must_read = False

    def take(self, events: Sequence[Event]) -> None:
        """Take what the stream reports; events that are older than the values change nothing."""
        news = [event for event in events if event.revision >= self._next_revision]
        for name, value, _ in news:
            text = name.removeprefix(self._prefix).decode(errors="surrogateescape")
            key, is_counter, _ = text.partition("\0")
            if key in self._wanted and value is not None and not is_counter:
                self.values[key] = value
            elif key in self._wanted:
                self.must_read = True
        newest = max((event.revision for event in news), default=0)
        self._next_revision = max(self._next_revision, newest + 1)


class Watcher:
    """All watches of one store."""

    def __init__(
        self,
        servers: Failover[Gateway],
        read: Callable[[Sequence[str]], Snapshot],
        prefix: bytes,
    ) -> None:
        self._servers = servers
        self._read = read
        self._prefix = prefix
        self._lock = threading.Lock()
        self._watches: list[Watch] = []
        self._must_reopen = False
        self._wake_fd = -1
        # Only the store's thread uses these.
        self._streamed: list[Watch] = []
        self._has_warned = False

    def wait(self, keys: Sequence[str], timeout_s: float | None) -> list[bytes] | None:
        arrived = threading.Event()
        outcomes: list[Outcome] = []

        def hear(outcome: Outcome) -> None:
            outcomes.append(outcome)
            arrived.set()

        if timeout_s is not None and timeout_s <= 0:
            return self._look(keys)
        cancel = self.watch(keys, hear)
        if not arrived.wait(as_wait(timeout_s)) and cancel():
            return None if self._is_live(keys) else self._look(keys)
        arrived.wait()
        if isinstance(outcomes[0], RendezvousError):
            raise type(outcomes[0])(str(outcomes[0])) from outcomes[0]
        return outcomes[0]

    def watch(self, keys: Sequence[str], hear: Hear) -> Callable[[], bool]:
        """Call ``hear`` once every key is there, or the store is lost or closed."""
        self._servers.check()
        watch = self._join(keys, hear) or self._begin(keys, hear)
        return lambda: self._leave(watch, hear)

    def _look(self, keys: Sequence[str]) -> list[bytes] | None:
        self._servers.check()
        watch = Watch(keys, self._prefix, self._read(keys))
        return [watch.values[key] for key in watch.keys] if watch.is_complete else None

    def attend(self, seconds: float) -> None:
        """Keep all watches up to date for so long; the store's thread does that."""
        until = time.monotonic() + seconds
        with self._lock:
            if self._wake_fd < 0:
                self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        while not self._servers.has_ended.is_set() and time.monotonic() < until:
            for watch in self._without_stream():
                self._open(watch)
            self._follow(until)

    def read_anew(self) -> None:
        """Read the keys of all watches, as the stream may be dead; the store's thread does that."""
        with self._lock:
            watches = [watch for watch in self._watches if watch.hearers]
        for watch in watches:
            self._read_keys_of(watch)
        self._finish()

    def _read_keys_of(self, watch: Watch) -> None:
        try:
            watch.reset(self._read(watch.keys))
        except RendezvousRoundOverError as error:
            watch.error = error

    def interrupt(self) -> None:
        """Have all streams opened anew; from any thread.

        Once the store has ended, all waits end with an error.
        """
        with self._lock:
            self._must_reopen = True
            self._wake()
            if not self._servers.has_ended.is_set():
                return
            abandoned, self._watches = self._watches, []
            for watch in abandoned:
                watch.is_over = True
        for watch in abandoned:
            for hear in watch.hearers:
                hear(RendezvousConnectionError(self._servers.end_reason))

    def close(self) -> None:
        """Close all streams; the store's thread does that at its end."""
        for watch in self._streamed:
            _close(watch)
        with self._lock:
            fd, self._wake_fd = self._wake_fd, -1
        if fd >= 0:
            os.close(fd)

    def _is_live(self, keys: Sequence[str]) -> bool:
        wanted = tuple(keys)
        with self._lock:
            streams = [each.stream for each in self._watches if each.keys == wanted]
        return any(stream is not None and stream.is_confirmed for stream in streams)

    def _join(self, keys: Sequence[str], hear: Hear) -> Watch | None:
        """Return a watch for just these keys that goes on; None if there is none."""
        wanted = tuple(keys)
        with self._lock:
            for watch in self._watches:
                if watch.keys == wanted and not watch.is_complete:
                    watch.hearers.append(hear)
                    return watch
        return None

    def _begin(self, keys: Sequence[str], hear: Hear) -> Watch:
        """Return a new watch; ``hear`` is called at once if each key has a value."""
        watch = Watch(keys, self._prefix, self._read(keys))
        if watch.is_complete:
            watch.is_over = True
            hear(watch.outcome)
            return watch
        watch.hearers.append(hear)
        with self._lock:
            self._servers.check()  # `interrupt` has not seen this watch if the end came before
            self._watches.append(watch)
            self._wake()
        return watch

    def _leave(self, watch: Watch, hear: Hear) -> bool:
        """Return whether a wait is over before it was answered."""
        with self._lock:
            if watch.is_over:
                return False
            watch.hearers.remove(hear)
            return True

    def _wake(self) -> None:
        """Let the store's thread look at the watches; the lock is held."""
        if self._wake_fd >= 0:
            os.eventfd_write(self._wake_fd, 1)

    def _without_stream(self) -> list[Watch]:
        """Return the watches that need a stream; close the streams that are needed no more."""
        with self._lock:
            must_reopen, self._must_reopen = self._must_reopen, False
            has_new = any(watch.stream is None for watch in self._watches)
            if must_reopen or has_new:
                for watch in self._watches:
                    watch.is_over = not watch.hearers
                self._watches = [watch for watch in self._watches if not watch.is_over]
        for watch in self._streamed:
            if must_reopen or watch.is_over:
                _close(watch)
        self._streamed = [watch for watch in self._streamed if watch.stream is not None]
        with self._lock:
            return [watch for watch in self._watches if watch.stream is None]

    def _open(self, watch: Watch) -> None:
        watch.stream = self._servers.call(lambda gateway: open_stream(gateway, watch.range))
        watch.opened_at = time.monotonic()
        self._streamed.append(watch)
        if not watch.stream.is_confirmed and not self._has_warned:
            self._has_warned = True
            log.warning(
                "etcd's watch is held up, as by a proxy that gathers what a server writes: elrun "
                "reads its keys every %g s instead",
                _HELD_UP_S,
            )
        self._take(watch, watch.opened_at)

    def _follow(self, until: float) -> None:
        """Take what the streams report, until then or until the list of watches changes."""
        held_up = any(not each.stream.is_confirmed for each in self._streamed if each.stream)
        if held_up:
            until = min(until, time.monotonic() + _HELD_UP_S)
        readable = select.poll()
        readable.register(self._wake_fd, select.POLLIN)
        watches = {each.stream.fileno(): each for each in self._streamed if each.stream}
        for fd in watches:
            readable.register(fd, select.POLLIN)
        ready = readable.poll(max(0.0, until - time.monotonic()) * 1000)
        for fd, _ in ready:
            if fd == self._wake_fd:
                os.eventfd_read(fd)
            else:
                self._take(watches[fd], time.monotonic() + _MESSAGE_S)
        if held_up and not ready:
            self.read_anew()

    def _take(self, watch: Watch, deadline: float) -> None:
        """Take the messages of a stream that have come, or come until a deadline."""
        stream = watch.stream
        try:
            while not watch.is_over and stream is not None:
                events = stream.next(deadline)
                if events is None:
                    break
                watch.take(events)
                deadline = 0.0
        except (Unreachable, Refused) as error:
            log.info("a watch of etcd has ended: %s", error)
            watch.must_read = True
            _close(watch)
            if time.monotonic() - watch.opened_at < _SHORT_LIFE_S:
                self._servers.has_ended.wait(_PAUSE_S)
        if watch.must_read and not self._is_dropped(watch):
            self._read_keys_of(watch)
        if watch.is_complete:
            self._finish()

    def _is_dropped(self, watch: Watch) -> bool:
        """Return whether no wait needs a watch; then no wait can join it any more."""
        with self._lock:
            if not watch.hearers and watch in self._watches:
                self._watches.remove(watch)
                watch.is_over = True
        return watch.is_over

    def _finish(self) -> None:
        """Answer the waits of all watches that are complete."""
        with self._lock:
            complete = [watch for watch in self._watches if watch.is_complete]
            self._watches = [watch for watch in self._watches if not watch.is_complete]
            for watch in complete:
                watch.is_over = True
        for watch in complete:
            for hear in watch.hearers:
                hear(watch.outcome)


def _close(watch: Watch) -> None:
    if watch.stream is not None:
        watch.stream.close()
        watch.stream = None
