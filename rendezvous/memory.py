"""The store in this process's memory: the fake of the seam, and what a single node needs."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from .handler import RendezvousConnectionError


class _Shelf:
    """What all connections share. Its fields belong to whoever holds the lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.values: dict[str, bytes] = {}
        # Each wait has an event of its own: of a thousand, only those are woken whose key came.
        self.waits: defaultdict[str, set[threading.Event]] = defaultdict(set)
        self.is_lost = False

    def wake(self, keys: Iterable[str]) -> None:
        """Wake those that wait for one of these keys."""
        for key in keys:
            for wait in self.waits.get(key, ()):
                wait.set()


class MemoryStore:
    """One connection to a dictionary; ``connect`` gives further ones, one for each node."""

    def __init__(self, shelf: _Shelf | None = None) -> None:
        self._shelf = shelf or _Shelf()
        self._is_closed = False

    def connect(self) -> MemoryStore:
        """Return another connection to the same values."""
        return MemoryStore(self._shelf)

    def lose(self) -> None:
        """Break every connection, as if the machine that holds the values went away."""
        with self._shelf.lock:
            self._shelf.is_lost = True
            self._shelf.wake(list(self._shelf.waits))

    def add(self, key: str, amount: int) -> int:
        """Add to a counter; see ``Store.add``."""
        with self._shelf.lock:
            self._check()
            value = int(self._shelf.values.get(key, b"0")) + amount
            self._shelf.values[key] = str(value).encode()
            self._shelf.wake([key])
            return value

    def set(self, values: Mapping[str, bytes]) -> None:
        """Write values; see ``Store.set``."""
        with self._shelf.lock:
            self._check()
            self._shelf.values.update(values)
            self._shelf.wake(values)

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return values, None for each that isn't there; see ``Store.get``."""
        with self._shelf.lock:
            self._check()
            return [self._shelf.values.get(key) for key in keys]

    def create(self, key: str, value: bytes, instead_of: bytes = b"") -> bytes:
        """Write a value once; see ``Store.create``."""
        with self._shelf.lock:
            self._check()
            if self._shelf.values.get(key, b"") == instead_of:
                self._shelf.values[key] = value
                self._shelf.wake([key])
            return self._shelf.values.get(key, b"")

    def wait(self, keys: Sequence[str], timeout_s: float | None) -> list[bytes] | None:
        """Block until every key is there; see ``Store.wait``."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        event = threading.Event()
        missing = list(keys)
        try:
            while True:
                with self._shelf.lock:
                    self._check()
                    values = self._shelf.values
                    missing = [key for key in missing if key not in values]
                    if not missing:
                        return [values[key] for key in keys]
                    event.clear()
                    for key in keys:
                        self._shelf.waits[key].add(event)
                left_s = None if deadline is None else deadline - time.monotonic()
                if (left_s is not None and left_s <= 0) or not event.wait(left_s):
                    return None
        finally:
            self._forget(event, keys)

    def close(self) -> None:
        """Break this connection; see ``Store.close``."""
        with self._shelf.lock:
            self._is_closed = True
            self._shelf.wake(list(self._shelf.waits))

    def _forget(self, event: threading.Event, keys: Sequence[str]) -> None:
        with self._shelf.lock:
            for key in keys:
                waits = self._shelf.waits[key]
                waits.discard(event)
                if not waits:
                    del self._shelf.waits[key]

    def _check(self) -> None:
        if self._is_closed or self._shelf.is_lost:
            how = "closed" if self._is_closed else "lost"
            raise RendezvousConnectionError(f"the connection to the memory store was {how}")
