"""The store in this process's memory: the fake of the seam, and what a single node needs."""

from __future__ import annotations

import threading
from collections import defaultdict

from ..errors import RendezvousConnectionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class _Wait:
    """A wait over one connection for keys of which some are missing."""

    def __init__(self, store: MemoryStore, missing: set[str]) -> None:
        self.store = store
        self.missing = missing
        self.is_over = threading.Event()


class _Shelf:
    """What all connections share. Its fields belong to whoever holds the lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.values: dict[str, bytes] = {}
        self.waits: defaultdict[str, set[_Wait]] = defaultdict(set)
        self.is_lost = False

    def begin(self, wait: _Wait) -> None:
        for key in wait.missing:
            self.waits[key].add(wait)
        if not wait.missing:
            wait.is_over.set()

    def wake(self, keys: Iterable[str]) -> None:
        """Wake those whose last missing key is among these: who waits for many is woken once."""
        for key in keys:
            for wait in self.waits.pop(key, ()):
                wait.missing.discard(key)
                if not wait.missing:
                    wait.is_over.set()

    def wake_all_of(self, store: MemoryStore | None) -> None:
        """Wake all that wait over a connection, or over any."""
        for waits in self.waits.values():
            for wait in waits:
                if store in (None, wait.store):
                    wait.is_over.set()

    def forget(self, wait: _Wait) -> None:
        for key in wait.missing:
            self.waits[key].discard(wait)
            if not self.waits[key]:
                del self.waits[key]


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
            self._shelf.wake_all_of(None)

    def add(self, key: str, amount: int) -> int:
        from ..protocol.counters import count_in  # a single node counts nothing

        with self._shelf.lock:
            self._check()
            value = count_in(self._shelf.values.get(key)) + amount
            if amount == 0:
                return value
            self._shelf.values[key] = str(value).encode()
            self._shelf.wake([key])
            return value

    def set(self, values: Mapping[str, bytes]) -> None:
        with self._shelf.lock:
            self._check()
            self._shelf.values.update(values)
            self._shelf.wake(values)

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        with self._shelf.lock:
            self._check()
            return [self._shelf.values.get(key) for key in keys]

    def create(self, key: str, value: bytes, instead_of: bytes = b"") -> bytes:
        with self._shelf.lock:
            self._check()
            if self._shelf.values.get(key, b"") == instead_of:
                self._shelf.values[key] = value
                self._shelf.wake([key])
            return self._shelf.values.get(key, b"")

    def wait(self, keys: Sequence[str], timeout_s: float | None) -> list[bytes] | None:
        from .store import as_wait  # a single node waits for nothing

        with self._shelf.lock:
            self._check()
            wait = _Wait(self, {key for key in keys if key not in self._shelf.values})
            self._shelf.begin(wait)
        try:
            wait.is_over.wait(as_wait(timeout_s))
        finally:
            with self._shelf.lock:
                self._shelf.forget(wait)
        with self._shelf.lock:
            self._check()
            return None if wait.missing else [self._shelf.values[key] for key in keys]

    def close(self) -> None:
        with self._shelf.lock:
            self._is_closed = True
            self._shelf.wake_all_of(self)

    def _check(self) -> None:
        if self._is_closed or self._shelf.is_lost:
            how = "closed" if self._is_closed else "lost"
            raise RendezvousConnectionError(f"the connection to the memory store was {how}")
