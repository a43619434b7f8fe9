"""Keys of etcd v3 that a node waits for, and what is known of them by now."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...errors import RendezvousError
from ...protocol.freeing import round_of
from ...protocol.keys import RoundKeys
from .etcd_store import Snapshot
from .v3_stream import Event, Range, WatchStream

COUNTED = b"\x00"
"""Stands between a counter's name and an amount: see ``v3.py``."""

AFTER_COUNTERS = b"\x01"
"""Behind a name, it sorts after that counter's amounts and before every other key."""

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
        """Reports the keys, perhaps beside others; only the store's thread uses it."""
        self.is_over = False
        """Whether no wait will be answered by it any more."""
        self.is_expected = False
        """Whether it goes on without a wait, as one is likely to follow."""
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
        news = [event for event in events if self._is_news(event)]
        for name, value, _ in news:
            text = name.removeprefix(self._prefix).decode(errors="surrogateescape")
            key, is_counter, _ = text.partition("\0")
            if key in self._wanted and value is not None and not is_counter:
                self.values[key] = value
            elif key in self._wanted:
                self.must_read = True
        newest = max((event.revision for event in news), default=0)
        self._next_revision = max(self._next_revision, newest + 1)

    def _is_news(self, event: Event) -> bool:
        """Return whether an event is in the range; its stream may have further ones."""
        return self._first <= event.name < self._end and event.revision >= self._next_revision


def awaited_after(key: str) -> tuple[str, ...]:
    """Return the keys for which a node is likely to wait once it has created this one.

    A node that has written its record waits for its place, and then for the verdict.
    """
    place = round_of(key)
    if place is None:
        return ()
    keys = RoundKeys(place.prefix.removesuffix("/"))
    kind, _, seat = key.removeprefix(place.prefix).partition("/")
    if kind != "node" or not (seat.isascii() and seat.isdigit()):
        return ()
    return keys.place(int(seat)), keys.verdict
