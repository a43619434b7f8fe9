"""What a round's agents share beside the protocol, with the methods of torch's ``Store``."""

from __future__ import annotations

from ..errors import RendezvousTimeoutError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from .store import Store

DEFAULT_TIMEOUT_S = 300.0


class RoundStore:
    """A part of a store, seen through the names that torch's users know.

    What waits for keys raises ``RendezvousTimeoutError`` where nobody has written them in time.

    Args:
        prefix: What keeps one round's keys apart from another's.
    """

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._timeout_s = DEFAULT_TIMEOUT_S

    @property
    def timeout(self) -> timedelta:
        """How long a call that waits for a key may take; 300 s unless set."""
        from datetime import timedelta  # 1 ms of every start, and few ask

        return timedelta(seconds=self._timeout_s)

    def set_timeout(self, timeout: timedelta) -> None:
        """Set how long a call that waits for a key may take."""
        self._timeout_s = timeout.total_seconds()

    def set(self, key: str, value: str | bytes) -> None:
        """Write a value."""
        self._store.set({self._prefix + key: _as_bytes(value)})

    def get(self, key: str) -> bytes:
        """Return a value; wait until it is there."""
        return self._wait([key], self._timeout_s)[0]

    def add(self, key: str, amount: int) -> int:
        """Add to a counter, which starts at 0, and return its new value."""
        return self._store.add(self._prefix + key, amount)

    def check(self, keys: Sequence[str]) -> bool:
        """Return whether all keys are there, without waiting."""
        return None not in self._store.get([self._prefix + key for key in keys])

    def wait(self, keys: Sequence[str], timeout: timedelta | None = None) -> None:
        """Wait until all keys are there."""
        self._wait(keys, self._timeout_s if timeout is None else timeout.total_seconds())

    def multi_get(self, keys: Sequence[str]) -> list[bytes]:
        """Return several values; wait until all are there."""
        return self._wait(keys, self._timeout_s)

    def multi_set(self, keys: Sequence[str], values: Sequence[str | bytes]) -> None:
        """Write several values."""
        pairs = zip(keys, values, strict=True)
        self._store.set({self._prefix + key: _as_bytes(value) for key, value in pairs})

    def _wait(self, keys: Sequence[str], timeout_s: float) -> list[bytes]:
        if not keys:
            return []
        values = self._store.wait([self._prefix + key for key in keys], timeout_s)
        if values is None:
            raise RendezvousTimeoutError(
                f"{', '.join(keys)}: no other agent wrote this within {timeout_s:g} s"
            )
        return values


def _as_bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
