"""The store in this process's memory: the fake of the seam, and what a single node needs."""

from __future__ import annotations

import threading

from ..errors import RendezvousConnectionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class _Shelf:
    """What all connections share."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.Lock())
        # These are read and written while the lock of ``changed`` is held.
        self.values: dict[str, bytes] = {}
        self.is_lost = False


class MemoryStore:
    """One connection to a dictionary; ``connect`` gives further ones, one for each node."""

    def __init__(self, shelf: _Shelf | None = None) -> None:
        self._shelf = shelf or _Shelf()
        self._changed, self._values = self._shelf.changed, self._shelf.values
        self._is_closed = False

    def connect(self) -> MemoryStore:
        """Return another connection to the same values."""
        return MemoryStore(self._shelf)

    def lose(self) -> None:
        """Break every connection, as if the machine that holds the values went away."""
        with self._changed:
            self._shelf.is_lost = True
            self._changed.notify_all()

    def add(self, key: str, amount: int) -> int:
        from ..protocol.keys import count_in  # a single node counts nothing

        with self._changed:
            self._check()
            value = count_in(self._values.get(key)) + amount
            if amount:
                self._write({key: b"%d" % value})
            return value

    def set(self, values: Mapping[str, bytes]) -> None:
        with self._changed:
            self._check()
            self._write(values)

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        with self._changed:
            self._check()
            return [self._values.get(key) for key in keys]

    def create(self, key: str, value: bytes, instead_of: bytes = b"") -> bytes:
        with self._changed:
            self._check()
            if self._values.get(key, b"") == instead_of:
                self._write({key: value})
            return self._values.get(key, b"")

    def wait(self, keys: Sequence[str], timeout_s: float | None) -> list[bytes] | None:
        from .store import as_wait  # a single node waits for nothing

        def are_there() -> bool:
            self._check()
            return all(key in self._values for key in keys)

        with self._changed:
            found = self._changed.wait_for(are_there, as_wait(timeout_s))
            return [self._values[key] for key in keys] if found else None

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _write(self, values: Mapping[str, bytes]) -> None:
        self._values.update(values)
        self._changed.notify_all()

    def _check(self) -> None:
        if self._is_closed or self._shelf.is_lost:
            how = "closed" if self._is_closed else "lost"
            raise RendezvousConnectionError(f"the connection to the memory store was {how}")
