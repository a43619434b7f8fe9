"""The store in this process's memory: the fake of the seam, and what a single node needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Condition

from .handler import RendezvousConnectionError


class _Shelf:
    """What all connections share. Its fields belong to whoever holds ``changed``."""

    def __init__(self) -> None:
        self.changed = Condition()
        self.values: dict[str, bytes] = {}
        self.is_lost = False


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
        with self._shelf.changed:
            self._shelf.is_lost = True
            self._shelf.changed.notify_all()

    def add(self, key: str, amount: int) -> int:
        """Add to a counter; see ``Store.add``."""
        with self._shelf.changed:
            self._check()
            value = int(self._shelf.values.get(key, b"0")) + amount
            self._shelf.values[key] = str(value).encode()
            self._shelf.changed.notify_all()
            return value

    def set(self, values: Mapping[str, bytes]) -> None:
        """Write values; see ``Store.set``."""
        with self._shelf.changed:
            self._check()
            self._shelf.values.update(values)
            self._shelf.changed.notify_all()

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return values, None for each that isn't there; see ``Store.get``."""
        with self._shelf.changed:
            self._check()
            return [self._shelf.values.get(key) for key in keys]

    def create(self, key: str, value: bytes, instead_of: bytes = b"") -> bytes:
        """Write a value once; see ``Store.create``."""
        with self._shelf.changed:
            self._check()
            if self._shelf.values.get(key, b"") == instead_of:
                self._shelf.values[key] = value
                self._shelf.changed.notify_all()
            return self._shelf.values.get(key, b"")

    def wait(self, keys: Sequence[str], timeout_s: float | None) -> list[bytes] | None:
        """Block until every key is there; see ``Store.wait``."""

        def is_over() -> bool:
            return self._is_broken() or all(key in self._shelf.values for key in keys)

        with self._shelf.changed:
            if not self._shelf.changed.wait_for(is_over, timeout_s):
                return None
            self._check()
            return [self._shelf.values[key] for key in keys]

    def close(self) -> None:
        """Break this connection; see ``Store.close``."""
        with self._shelf.changed:
            self._is_closed = True
            self._shelf.changed.notify_all()

    def _is_broken(self) -> bool:
        return self._is_closed or self._shelf.is_lost

    def _check(self) -> None:
        if self._is_broken():
            how = "closed" if self._is_closed else "lost"
            raise RendezvousConnectionError(f"the connection to the memory store was {how}")
