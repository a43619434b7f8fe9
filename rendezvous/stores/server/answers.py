"""What the requests of a store server's clients are answered; it neither reads nor sends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from .table import StoreTable, TableError
from .wire import (
    Add,
    Create,
    Forget,
    Get,
    Request,
    Set,
    Wait,
    WireError,
    write_count,
    write_done,
    write_error,
    write_values,
)

_C = TypeVar("_C", bound=Hashable)


class Answers(Generic[_C]):
    """Carries requests out.

    Args:
        max_waits: Waits that one client may have at a time.
    """

    def __init__(self, max_waits: int) -> None:
        self._max_waits = max_waits
        self._table: StoreTable[tuple[_C, int]] = StoreTable()
        self._waits: defaultdict[_C, set[int]] = defaultdict(set)

    def answer(self, client: _C, number: int, request: Request) -> list[tuple[_C, Iterable[bytes]]]:
        """Return what to send to whom: the answer, and those to the waits that it ends.

        Raises:
            WireError: Two waits of the client have one number.
        """
        ended: list[tuple[_C, int]] = []
        frames: Iterable[bytes] = ()
        try:
            match request:
                case Add(key, amount):
                    count, ended = self._table.add(key, amount)
                    frames = [write_count(number, count)]
                case Set(values):
                    ended = self._table.set(values)
                    frames = [write_done(number)]
                case Get(keys):
                    frames = write_values(number, self._table.get(keys))
                case Create(key, value, instead_of):
                    standing, ended = self._table.create(key, value, instead_of)
                    frames = write_values(number, [standing])
                case Wait(keys):
                    frames = self._wait(client, number, keys)
                case Forget(wait):
                    self._waits[client].discard(wait)
                    self._table.forget((client, wait))
        except TableError as error:
            frames = [write_error(number, str(error))]
        return [(client, frames), *(self._end(*wait) for wait in ended)]

    def leave(self, client: _C) -> None:
        """Forget a client and its waits."""
        for wait in self._waits.pop(client, ()):
            self._table.forget((client, wait))

    def _wait(self, client: _C, number: int, keys: tuple[str, ...]) -> Iterable[bytes]:
        waits = self._waits[client]
        if number in waits:
            raise WireError(f"two waits have the number {number}")
        if len(waits) >= self._max_waits:
            raise TableError(f"this client has {len(waits)} waits already")
        if self._table.wait((client, number), keys):
            return write_values(number, self._table.get(keys))
        waits.add(number)
        return ()

    def _end(self, client: _C, wait: int) -> tuple[_C, Iterable[bytes]]:
        self._waits[client].discard(wait)
        return client, write_values(wait, self._table.take_values((client, wait)))
