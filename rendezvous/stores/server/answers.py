"""What the requests of a store server's clients are answered; it neither reads nor sends."""

from __future__ import annotations

import contextlib
from collections import defaultdict

from ..store import Will
from .frames import WireError
from .sessions import Outcome, Session
from .table import RoundOverError, StoreTable, TableError
from .wire import (
    Add,
    Bye,
    Create,
    Forget,
    Get,
    LeaveWill,
    LongAnswer,
    Request,
    Set,
    Wait,
    write_count,
    write_done,
    write_error,
    write_values,
)

Frames = LongAnswer | list[bytes]
Sending = tuple[Session, Frames]
"""A client and the frames to send to it."""

_ROUND_IS_OVER = RoundOverError("the round is over, and newer ones have taken its place")


class Answers:
    """Carries requests out."""

    def __init__(self, max_waits: int) -> None:
        self._max_waits = max_waits
        self._table: StoreTable[tuple[Session, int]] = StoreTable()
        self._waits: defaultdict[Session, set[int]] = defaultdict(set)

    def answer(self, client: Session, number: int, request: Request) -> list[Sending]:
        """Return what to send: the answer, and the answers of the waits that this ends.

        Raises:
            WireError: Two waits of the client have one number.
        """
        match request:
            case Add() | Set() | Create():
                return self._write(client, number, request)
            case Get(keys):
                return [(client, write_values(number, self._table.get(keys)))]
            case Wait(keys):
                frames = self._wait(client, number, keys)
                return [] if frames is None else [(client, frames)]
            case Forget(wait):
                self._waits[client].discard(wait)
                self._table.forget((client, wait))
            case LeaveWill():
                try:
                    client.leave_will(request)
                except TableError as error:
                    return [(client, [_refusal(number, error)])]
            case Bye():
                client.leave_will(None)
        return []

    def carry_out(self, will: Will) -> list[Sending]:
        """Write what a client that is gone has left; return the answers of waits that this ends."""
        ended = self._table.set(will.values)
        if not any(value is not None for value in self._table.get(will.unless)):
            for key, value in will.create.items():
                with contextlib.suppress(TableError):  # it is full: waits are answered
                    ended += self._table.create(key, value, b"")[1]
        return [self._end(*wait) for wait in ended] + self._end_lost()

    def leave(self, client: Session) -> None:
        """Forget the waits of a client that has no connection: it asks again if it comes back."""
        for wait in self._waits.pop(client, ()):
            self._table.forget((client, wait))

    def _write(self, client: Session, number: int, request: Add | Set | Create) -> list[Sending]:
        ended: list[tuple[Session, int]] = []
        outcome: Outcome = None
        if client.is_repeated(number):
            outcome = client.outcome_of(number)
        else:
            try:
                match request:
                    case Add(key, amount):
                        outcome, ended = self._table.add(key, amount)
                    case Set(values, _):
                        ended = self._table.set(values)
                    case Create(key, value, instead_of):
                        outcome, ended = self._table.create(key, value, instead_of)
            except TableError as error:
                outcome = error
            client.note(number, outcome)
        frames = _frames_of(number, outcome)
        if isinstance(request, Set) and request.keys and outcome is None:
            frames = write_values(number, self._table.get(request.keys))
        return [(client, frames), *(self._end(*wait) for wait in ended), *self._end_lost()]

    def _wait(self, client: Session, number: int, keys: tuple[str, ...]) -> Frames | None:
        waits = self._waits[client]
        if number in waits:
            raise WireError(f"two waits have the number {number}")
        if len(waits) >= self._max_waits:
            return [write_error(number, f"this client has {len(waits)} waits already")]
        try:
            is_over = self._table.wait((client, number), keys)
        except TableError as error:
            return [_refusal(number, error)]
        if is_over:
            return write_values(number, self._table.get(keys))
        waits.add(number)
        return None

    def _end_lost(self) -> list[Sending]:
        """Answer the waits of nodes that are so late that their round was freed."""
        lost = self._table.take_lost()
        for client, wait in lost:
            self._waits[client].discard(wait)
        return [(client, [_refusal(wait, _ROUND_IS_OVER)]) for client, wait in lost]

    def _end(self, client: Session, wait: int) -> Sending:
        self._waits[client].discard(wait)
        return client, write_values(wait, self._table.take_values((client, wait)))


def _frames_of(number: int, outcome: Outcome) -> Frames:
    match outcome:
        case None:
            return [write_done(number)]
        case int():
            return [write_count(number, outcome)]
        case bytes():
            return write_values(number, [outcome])
        case TableError():
            return [_refusal(number, outcome)]


def _refusal(number: int, error: TableError) -> bytes:
    return write_error(number, str(error), is_over=isinstance(error, RoundOverError))
