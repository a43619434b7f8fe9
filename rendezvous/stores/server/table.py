"""What a store server keeps: values by key, and the waits for keys that are not there yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ...errors import RendezvousError
from ...protocol.freeing import ROUNDS_KEPT, round_of
from ...protocol.keys import count_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .sessions import Session

MAX_KEYS = 4_000_000
MAX_BYTES = 1 << 30
MAX_AWAITED = 1_000_000
"""Keys of the waits of all clients, each counted as often as a wait names it."""
MAX_AWAITED_CHARACTERS = 64 << 20
"""Characters of these keys."""
_MOST_SEARCHES = 2  # the second one has not begun yet, and finds all that is lost by then


class TableError(RendezvousError):
    """What was asked for can't be done."""


class RoundOverError(TableError):
    """The keys of a round were freed."""


class Rounds:
    """Which keys belong to which round, and which rounds are freed (``protocol/freeing.py``)."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[int, list[str]]] = {}
        self._first: dict[str, int] = {}

    def reason_against(self, key: str) -> str:
        """Return why a key can't be had, as its round was freed; empty: it can."""
        if not self._first:  # no round was freed yet: most jobs never come so far
            return ""
        place = round_of(key)
        is_over = place is not None and place.number < self._first.get(place.run, 0)
        return place.over_reason if place is not None and is_over else ""

    def add(self, key: str) -> list[str]:
        """Take note of a new key; return the keys of the round that is freed for its sake."""
        place = round_of(key)
        if place is None:
            return []
        run, number = place
        rounds = self._keys.setdefault(run, {})
        rounds.setdefault(number, []).append(key)
        if len(rounds) <= ROUNDS_KEPT:
            return []
        freed = rounds.pop(min(rounds))
        self._first[run] = min(rounds)
        return freed


class StandingWait:
    """A wait for keys of which some are missing.

    Args:
        client: Who waits, and the number of the request.
        missing: How many of the keys.
    """

    __slots__ = ("client", "keys", "missing")

    def __init__(self, client: tuple[Session, int], keys: Sequence[str], missing: int) -> None:
        self.client = client
        self.keys = keys
        self.missing = missing


class StoreTable:
    """Values and waits; its calls return at once, and belong to one thread.

    What writes raises ``TableError`` where the table is full. What one call may leave to be done
    for a million keys is done by ``work``, so that the caller can do something else meanwhile.
    """

    def __init__(self, max_keys: int = MAX_KEYS, max_bytes: int = MAX_BYTES) -> None:
        self._max_keys = max_keys
        self._max_bytes = max_bytes
        self._bytes = 0
        self._rounds = Rounds()
        self._frees = 0  # rounds some of whose keys are still among the values
        self._values: dict[str, bytes] = {}
        self._waits: dict[str, set[StandingWait]] = {}
        self._awaited = self._awaited_characters = 0
        self._chores: deque[Iterator[StandingWait | None]] = deque()
        self._searches: deque[Iterator[StandingWait | None]] = deque()
        """Chores that look at all awaited keys. They come last: nobody else is to wait for them."""

    def work(self) -> Iterator[StandingWait | None]:
        """Go on with what is left to be done, in brief steps.

        Yields:
            A wait that has come to its end: no key of it is missing, or the round of one was freed.
            The caller forgets it. None: nothing is to be done but to go on.
        """
        while chores := self._chores or self._searches:
            for step in chores[0]:  # another call goes on there
                yield step
                if chores is self._searches and self._chores:
                    break
            else:
                chores.popleft()

    def add(self, key: str, amount: int) -> int:
        """Add to a counter; return its value."""
        self._require_round_of(key)
        count = count_in(self._values.get(key)) + amount
        if amount != 0:
            self.set({key: b"%d" % count})
        return count

    def set(self, values: Mapping[str, bytes]) -> None:
        """Write values, all or none.

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
            if self._rounds.reason_against(key):
                self._remove(key)
            elif freed := self._rounds.add(key):
                self._frees += 1
                self._chores.append(self._free(freed))
                if len(self._searches) < _MOST_SEARCHES:
                    self._searches.append(self._end_waits_for_freed_rounds())
        for key in values:
            if waits := self._waits.pop(key, None):
                self._chores.append(_count_off(waits))

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        if self._frees:  # the round is gone at one instant for all who read it
            return [None if self._rounds.reason_against(k) else self._values.get(k) for k in keys]
        return [self._values.get(key) for key in keys]

    def create(self, key: str, value: bytes, instead_of: bytes) -> bytes:
        """Write a value if ``instead_of`` or, if empty, none is there; return what stands."""
        self._require_round_of(key)
        standing = self._values.get(key, b"")
        if standing != instead_of:
            return standing
        self.set({key: value})
        return value

    def wait(self, client: tuple[Session, int], keys: Sequence[str]) -> StandingWait | None:
        """Return a wait, which ``work`` ends; None: all keys are there.

        Raises:
            TableError: Too many keys are waited for, or they belong to a round that is over.
        """
        for key in keys:
            self._require_round_of(key)
        missing = [key for key in keys if key not in self._values]
        if not missing:
            return None
        awaited = self._awaited + len(keys)
        characters = self._awaited_characters + sum(map(len, keys))
        if awaited > MAX_AWAITED or characters > MAX_AWAITED_CHARACTERS:
            raise TableError(f"{self._awaited} keys are waited for already")
        self._awaited, self._awaited_characters = awaited, characters
        wait = StandingWait(client, keys, len(missing))
        for key in missing:
            if key in self._waits:
                self._waits[key].add(wait)
            else:
                self._waits[key] = {wait}
        return wait

    def forget(self, wait: StandingWait) -> None:
        """Take a wait back, or let go of one that has ended; once."""
        self._chores.append(self._unlink(wait))

    def _require_round_of(self, key: str) -> None:
        if reason := self._rounds.reason_against(key):
            raise RoundOverError(reason)

    def _remove(self, key: str) -> None:
        self._bytes -= len(key) + len(self._values.pop(key))

    def _free(self, keys: Iterable[str]) -> Iterator[None]:
        for key in keys:
            self._remove(key)
            yield None
        self._frees -= 1

    def _end_waits_for_freed_rounds(self) -> Iterator[StandingWait | None]:
        for key in list(self._waits):
            if self._rounds.reason_against(key):
                yield from list(self._waits.get(key, ()))
            else:
                yield None

    def _unlink(self, wait: StandingWait) -> Iterator[None]:
        for key in wait.keys if wait.missing else ():
            waits = self._waits.get(key)
            if waits is not None:
                waits.discard(wait)
                if not waits:
                    del self._waits[key]
            yield
        self._awaited -= len(wait.keys)
        self._awaited_characters -= sum(map(len, wait.keys))


def _count_off(waits: Iterable[StandingWait]) -> Iterator[StandingWait | None]:
    """End the waits for a key that is there, if it was the last one that was missing."""
    for wait in waits:
        wait.missing -= 1
        yield None if wait.missing else wait
