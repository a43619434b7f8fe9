"""A ``Store`` over one connection to a store server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from ...light_typing import TypeVar
from ..loop import Loop
from ..store import Told, Will, as_wait
from .calls import Call, copy_of
from .line import Line
from .wire import MAX_VALUE_BYTES, MOST_KEYS, Add, Create, Get, Request, Set, Wait

_PART_BYTES = 4 << 20
# JSON writes a character in up to twelve bytes, and a frame is four times as long as a part.
_CHARACTER_BYTES = 4
_V = TypeVar("_V")


class StoreClient:
    """One node's store, which does all that ``store.py`` has functions for.

    Args:
        line: The connection.
        on_close: Called when the client was closed, as where the server lives in this process.
    """

    def __init__(self, line: Line, on_close: Callable[[], None] | None = None) -> None:
        self._line = line
        self._on_close = on_close

    def add(self, key: str, amount: int) -> int:
        return self._ask(Add(key, amount)).count

    def set(self, values: Mapping[str, bytes]) -> None:
        for part in _parts_of(values):
            self._ask(Set(part))

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        return self._await_all(keys, self._line.begin(*_gets_of(keys))) if keys else []

    def exchange(self, values: Mapping[str, bytes], keys: Sequence[str]) -> list[bytes | None]:
        asked = _without_repeats(keys)
        parts = [*_parts_of({**dict.fromkeys(asked, b""), **values})]
        if len(parts) > 1 or len(values) + len(asked) > MOST_KEYS:
            self.set(values)
            return self.get(keys)
        return _as_asked(keys, asked, self._ask(Set(values, asked)).parts)

    def create(self, key: str, value: bytes, instead_of: bytes = b"") -> bytes:
        return self._ask(Create(key, value, instead_of)).parts[0] or b""

    def wait(self, keys: Sequence[str], timeout_s: float | None) -> list[bytes] | None:
        asked = _without_repeats(keys)
        (call,) = self._line.begin(Wait(asked))
        if not self._line.await_end(call, as_wait(timeout_s)):
            if self._line.take_back(call):
                return None
            call.await_end()
        if call.error is not None:
            raise copy_of(call.error)
        return _as_asked(keys, asked, call.values)

    def watch(self, keys: Sequence[str], hear: Callable[[Told], None]) -> Callable[[], bool]:
        asked = _without_repeats(keys)

        def hear_all(found: Told) -> None:
            hear(_as_asked(keys, asked, found) if isinstance(found, list) else found)

        (call,) = self._line.begin(Wait(asked), hear=hear_all)
        return lambda: self._line.take_back(call)

    def read_by(self, loop: Loop) -> None:
        self._line.read_by(loop)

    def leave_will(self, will: Will) -> None:
        self._line.leave_will(will)

    def close(self) -> None:
        """Let go of the connection, and of the server if it is here."""
        self._line.close()
        if self._on_close is not None:
            self._on_close()

    def _ask(self, request: Request) -> Call:
        (call,) = self._line.begin(request)
        return self._line.await_answer(call)

    def _await_all(self, keys: Sequence[str], reads: Sequence[Call]) -> list[bytes | None]:
        found = [value for call in reads for value in self._line.await_answer(call).parts]
        return _as_asked(keys, _without_repeats(keys), found)


def _without_repeats(keys: Sequence[str]) -> tuple[str, ...]:
    """Return each key once: a server refuses a request that repeats a key."""
    return tuple(dict.fromkeys(keys))


def _gets_of(keys: Sequence[str]) -> list[Get]:
    """Return the requests that read values: one, unless a frame can't have so many keys."""
    return [Get(tuple(part)) for part in _parts_of(dict.fromkeys(keys, b""))]


def _as_asked(keys: Sequence[str], asked: Sequence[str], found: list[_V]) -> list[_V]:
    """Return the value of each key, from the values of those that were asked for."""
    if len(asked) == len(keys):
        return found
    by_key = dict(zip(asked, found, strict=True))
    return [by_key[key] for key in keys]


def _parts_of(values: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    """Yield values in parts of which each fits into a frame.

    Raises:
        ValueError: One of them doesn't.
    """
    part: dict[str, bytes] = {}
    size = 0
    for key, value in values.items():
        if len(value) > MAX_VALUE_BYTES:
            raise ValueError(f"{key}: {len(value)} bytes, and {MAX_VALUE_BYTES} are allowed")
        added = _CHARACTER_BYTES * len(key) + len(value)
        if part and (len(part) == MOST_KEYS or size + added > _PART_BYTES):
            yield part
            part, size = {}, 0
        part[key] = value
        size += added
    if part:
        yield part
