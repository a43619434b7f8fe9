"""Waits for keys of etcd v3: a stream for each key that a node waits for, all read by one thread.

A wait reads its keys. If one is missing, the wait becomes a ``Watch``: the values so far, and the
revision from which on a stream reports the keys. The store's thread opens and reads the streams. If
a member is in trouble, it opens them anew at the next one; each watch then begins at its next
revision, so no event is lost. A member of a round waits for the verdict only, and has one stream.

A watch whose wait is over goes on until the node waits for other keys: a node that waits again for
the same keys, as nodes do that look up every two seconds, costs etcd nothing.

*One stream a round.* The transaction that writes a node's record reads the node's place and the
verdict, too (``v3.py``): the next wait for one of them needs no read, and its stream reports the
other as well. So a wait for the verdict finds an expected watch, which asks nothing more of etcd.

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
from .v3_awaited import Hear, Outcome, Watch
from .v3_client import Gateway
from .v3_stream import WatchStream, open_stream

log = Log(__name__)

_HELD_UP_S = 0.5
_MESSAGE_S = 0.1
"""How long the rest of a message may take whose first bytes have come."""
_SHORT_LIFE_S = 1.0
_PAUSE_S = 0.2
_EXPECTED_S = 3.0
"""etcd searches all revisions since the one from which a stream begins: they must not be many."""


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
        # Keys that a transaction has found missing: until when that is used, and its revision.
        self._missing: tuple[Sequence[str], float, int] = ((), 0.0, 0)
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

    def expect(self, keys: Sequence[str], revision: int) -> None:
        """Take note that keys are missing at a revision, and that waits for them follow soon."""
        with self._lock:
            self._missing = (keys, time.monotonic() + _EXPECTED_S, revision)

    def _look(self, keys: Sequence[str]) -> list[bytes] | None:
        self._servers.check()
        watch = self._read_watch(keys)
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
            self._close(watch)
        with self._lock:
            fd, self._wake_fd = self._wake_fd, -1
        if fd >= 0:
            os.close(fd)

    def _is_live(self, keys: Sequence[str]) -> bool:
        wanted = tuple(keys)
        with self._lock:
            streams = [each.stream for each in self._watches if each.keys == wanted]
        return any(stream is not None and stream.confirmed for stream in streams)

    def _join(self, keys: Sequence[str], hear: Hear) -> Watch | None:
        """Return a watch for just these keys that goes on; None if there is none."""
        wanted = tuple(keys)
        with self._lock:
            for watch in self._watches:
                if watch.keys == wanted and not watch.is_complete and _is_reported(watch):
                    watch.hearers.append(hear)
                    watch.is_expected = False
                    return watch
        return None

    def _begin(self, keys: Sequence[str], hear: Hear) -> Watch:
        """Return a new watch; ``hear`` is called at once if each key has a value."""
        watch, *expected = self._expected_with(keys) or [self._read_watch(keys)]
        if watch.is_complete:
            watch.is_over = True
            hear(watch.outcome)
            return watch
        watch.hearers.append(hear)
        with self._lock:
            self._servers.check()  # `interrupt` has not seen this watch if the end came before
            for each in self._watches:
                each.is_expected &= not expected and each.keys != watch.keys
            self._watches += [watch, *expected]
            self._wake()
        return watch

    def _read_watch(self, keys: Sequence[str]) -> Watch:
        return Watch(keys, self._prefix, self._read(keys))

    def _expected_with(self, keys: Sequence[str]) -> list[Watch]:
        """Return watches of expected keys, these first; none if these are not expected."""
        with self._lock:
            missing, until, revision = self._missing
            if not set(keys) <= set(missing) or time.monotonic() > until:
                return []
            self._missing = ((), 0.0, 0)
        others = [key for key in missing if key not in keys]
        groups = [keys, others] if others else [keys]
        watches = [Watch(each, self._prefix, ({}, revision)) for each in groups]
        for watch in watches[1:]:
            watch.is_expected = True
        return watches

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
            has_new = any(map(_needs_stream, self._watches))
            if must_reopen or has_new:
                for watch in self._watches:
                    watch.is_over = not (watch.hearers or (watch.is_expected and not must_reopen))
                self._watches = [watch for watch in self._watches if not watch.is_over]
        for watch in self._streamed:
            if must_reopen or watch.is_over:
                self._close(watch)
        self._streamed = [watch for watch in self._streamed if watch.stream is not None]
        with self._lock:
            return list(filter(_needs_stream, self._watches))

    def _open(self, watch: Watch) -> None:
        with self._lock:
            expected = [each for each in self._watches if each.is_expected and not each.stream]
        together = [watch, *expected]
        ranges = [each.range for each in together]
        stream = self._servers.call(lambda gateway: open_stream(gateway, ranges))
        for each in together:
            each.stream = stream
        self._streamed += together
        self._take(stream, stream.opened_at)

    def _follow(self, until: float) -> None:
        """Take what the streams report, until then or until the list of watches changes."""
        held_up = any(not each.stream.confirmed for each in self._streamed if each.stream)
        if held_up:
            until = min(until, time.monotonic() + _HELD_UP_S)
        readable = select.poll()
        readable.register(self._wake_fd, select.POLLIN)
        streams = {each.stream.fileno(): each.stream for each in self._streamed if each.stream}
        for fd in streams:
            readable.register(fd, select.POLLIN)
        ready = readable.poll(max(0.0, until - time.monotonic()) * 1000)
        for fd, _ in ready:
            if fd == self._wake_fd:
                os.eventfd_read(fd)
            else:
                self._take(streams[fd], time.monotonic() + _MESSAGE_S)
        if held_up and not ready:
            self._warn_of_silence()
            self.read_anew()

    def _warn_of_silence(self) -> None:
        """Say once that a member answers requests, and confirms no watch for a while after that."""
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "etcd's watch is held up, as by a proxy that gathers what a server writes: elrun "
                "reads its keys every %g s instead",
                _HELD_UP_S,
            )

    def _take(self, stream: WatchStream, deadline: float) -> None:
        """Take the messages of a stream that have come, or come until a deadline."""
        watches = [each for each in self._streamed if each.stream is stream]
        try:
            while not all(watch.is_over for watch in watches):
                events = stream.next(deadline)
                if events is None:
                    break
                for watch in watches:
                    watch.take(events)
                deadline = 0.0
        except (Unreachable, Refused) as error:
            log.info("a watch of etcd has ended: %s", error)
            for watch in watches:
                watch.must_read = True
                self._close(watch)
            if time.monotonic() - stream.opened_at < _SHORT_LIFE_S:
                self._servers.has_ended.wait(_PAUSE_S)
        for watch in watches:
            if watch.must_read and not self._is_dropped(watch):
                self._read_keys_of(watch)
        if any(watch.is_complete for watch in watches):
            self._finish()

    def _close(self, watch: Watch) -> None:
        """Close the stream of a watch, unless another one needs it."""
        stream, watch.stream = watch.stream, None
        if stream is not None and all(each.stream is not stream for each in self._streamed):
            stream.close()

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


def _needs_stream(watch: Watch) -> bool:
    return watch.stream is None and not watch.is_expected


def _is_reported(watch: Watch) -> bool:
    """Return whether a watch that nobody waits for is the second range of its stream for sure."""
    stream = watch.stream
    return not watch.is_expected or (stream is not None and stream.confirmed > 1)
