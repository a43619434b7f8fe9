"""What a store server keeps: values by key, and the waits for keys that are not there yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ...errors import RendezvousError
from ...light_typing import Generic, TypeVar
from ...protocol.freeing import ROUNDS_KEPT, round_of
from ...protocol.keys import count_in

MAX_KEYS = 4_000_000
MAX_BYTES = 1 << 30
MAX_AWAITED = 1_000_000
"""Keys of the waits of all clients, each counted as often as a wait names it."""
MAX_AWAITED_CHARACTERS = 64 << 20
"""Characters of these keys."""

_W = TypeVar("_W")


class TableError(RendezvousError):
    """What was asked for can't be done."""


class RoundOverError(TableError):
    """The keys of a round were freed."""


class Rounds:
    """Which keys belong to which round, and which rounds are freed (``protocol/freeing.py``)."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[int, list[str]]] = {}
        self._awaited: dict[str, dict[int, set[str]]] = {}
        self._first: dict[str, int] = {}

    def is_over(self, key: str) -> bool:
        """Return whether a key belongs to a round whose keys were freed."""
        if not self._first:  # no round was freed yet: most jobs never come so far
            return False
        place = round_of(key)
        return place is not None and place[1] < self._first.get(place[0], 0)

    def add(self, key: str) -> tuple[list[str], list[str]]:
        """Take note of a new key; return what is freed for its sake: keys, and awaited keys."""
        place = round_of(key)
        if place is None:
            return [], []
        run, number = place
        rounds = self._keys.setdefault(run, {})
        rounds.setdefault(number, []).append(key)
        if len(rounds) <= ROUNDS_KEPT:
            return [], []
        freed = rounds.pop(min(rounds))
        first = self._first[run] = min(rounds)
        awaited = self._awaited.get(run, {})
        return freed, [each for at in awaited if at < first for each in awaited[at]]

    def expect(self, key: str) -> None:
        """Take note of a key that a client waits for."""
        place = round_of(key)
        if place is not None:
            rounds = self._awaited.setdefault(place.run, {})
            rounds.setdefault(place.number, set()).add(key)

    def expect_no_more(self, key: str) -> None:
        """Take note that no client waits for a key any more."""
        place = round_of(key)
        if place is not None:
            rounds = self._awaited[place.run]
            rounds[place.number].remove(key)
            if not rounds[place.number]:
                del rounds[place.number]
            if not rounds:
                del self._awaited[place.run]


class StoreTable(Generic[_W]):
    """Values and waits; its calls return at once, and belong to one thread.

    What writes raises ``TableError`` where the table is full.
    """

    def __init__(self, max_keys: int = MAX_KEYS, max_bytes: int = MAX_BYTES) -> None:
        self._max_keys = max_keys
        self._max_bytes = max_bytes
        self._bytes = 0
        self._rounds = Rounds()
        self._lost: list[_W] = []
        self._values: dict[str, bytes] = {}
        self._missing: dict[_W, set[str]] = {}
        self._keys: dict[_W, tuple[str, ...]] = {}
        self._waits: dict[str, set[_W]] = {}
        self._awaited = self._awaited_characters = 0

    def add(self, key: str, amount: int) -> tuple[int, list[_W]]:
        """Add to a counter; return its value, and the waits that this ends."""
        self._require_round_of(key)
        count = count_in(self._values.get(key)) + amount
        return count, [] if amount == 0 else self.set({key: b"%d" % count})

    def set(self, values: Mapping[str, bytes]) -> list[_W]:
        """Write values, all or none; return the waits that this ends.

        Values of rounds that are over are left out: a node that is late may still give signs.
        """
        added = self._bytes
        new_keys = []
        for key, value in values.items():
            standing = self._values.get(key)
            if standing is None:
                new_keys.append(key)
            added += len(value) + (len(key) if standing is None else -len(standing))
        if len(self._values) + len(new_keys) > self._max_keys or added > self._max_bytes:
            raise TableError(
                f"the store is full: {len(self._values)} keys and {self._bytes} bytes are there"
            )
        self._bytes = added
        self._values.update(values)
        for key in new_keys:
            if self._rounds.is_over(key):
                self._remove(key)
            else:
                self._free(*self._rounds.add(key))
        return self._end_waits(values)

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self._values.get(key) for key in keys]

    def create(self, key: str, value: bytes, instead_of: bytes) -> tuple[bytes, list[_W]]:
        """Write a value if ``instead_of`` is there, or none if that is empty.

        Returns:
            The value that stands, and the waits that this ends.
        """
        self._require_round_of(key)
        if self._values.get(key, b"") != instead_of:
            return self._values.get(key, b""), []
        return value, self.set({key: value})

    def wait(self, wait: _W, keys: Sequence[str]) -> bool:
        """Return whether all keys are there; if not, remember the wait.

        Raises:
            TableError: Too many keys are waited for, or they belong to a round that is over.
        """
        for key in keys:
            self._require_round_of(key)
        missing = {key for key in keys if key not in self._values}
        if not missing:
            return True
        awaited = self._awaited + len(keys)
        characters = self._awaited_characters + sum(map(len, keys))
        if awaited > MAX_AWAITED or characters > MAX_AWAITED_CHARACTERS:
            raise TableError(f"{self._awaited} keys are waited for already")
        self._awaited, self._awaited_characters = awaited, characters
        self._missing[wait] = missing
        self._keys[wait] = tuple(keys)
        for key in missing:
            if key in self._waits:
                self._waits[key].add(wait)
            else:
                self._waits[key] = {wait}
                self._rounds.expect(key)
        return False

    def take_lost(self) -> list[_W]:
        """Return the waits for keys of rounds that are over, and forget them."""
        lost, self._lost = self._lost, []
        return lost

    def _require_round_of(self, key: str) -> None:
        place = round_of(key) if self._rounds.is_over(key) and key not in self._values else None
        if place is not None:
            raise RoundOverError(place.over_reason)

    def _free(self, keys: Sequence[str], awaited: Sequence[str]) -> None:
        """Remove the keys of a round, and the waits for keys of freed rounds."""
        for key in keys:
            self._remove(key)
        for key in awaited:
            for wait in list(self._waits.get(key, ())):
                self.forget(wait)
                self._lost.append(wait)

    def _remove(self, key: str) -> None:
        self._bytes -= len(key) + len(self._values.pop(key))

    def take_values(self, wait: _W) -> list[bytes | None]:
        """Return what a wait that has ended was for, and forget it."""
        del self._missing[wait]
        return self.get(self._take_keys(wait))

    def forget(self, wait: _W) -> None:
        """Take a wait back, if it is there."""
        self._take_keys(wait)
        for key in self._missing.pop(wait, ()):
            self._waits[key].discard(wait)
            if not self._waits[key]:
                del self._waits[key]
                self._rounds.expect_no_more(key)

    def _take_keys(self, wait: _W) -> tuple[str, ...]:
        keys = self._keys.pop(wait, ())
        self._awaited -= len(keys)
        self._awaited_characters -= sum(map(len, keys))
        return keys

    def _end_waits(self, keys: Iterable[str]) -> list[_W]:
        ended = []
        for key in keys:
            waits = self._waits.pop(key, None)
            if waits is None:
                continue
            self._rounds.expect_no_more(key)
            for wait in waits:
                self._missing[wait].discard(key)
                if not self._missing[wait]:
                    ended.append(wait)
        return ended
