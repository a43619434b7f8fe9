"""What the requests of a store server's clients are answered; it neither reads nor sends."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator

from ..store import Will
from .frames import WireError
from .sessions import Outcome, Session
from .table import RoundOverError, StandingWait, StoreTable, TableError
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
    write_done,
    write_error,
    write_values,
)

Frames = LongAnswer | list[bytes]
Sending = tuple[Session, Frames]
"""A client and the frames to send to it."""

_ROUND_IS_OVER = RoundOverError("the round is over, and newer ones have taken its place")


class Answers:
    """Carries requests out; ``work`` answers the waits that end."""

    def __init__(self, max_waits: int) -> None:
        self._max_waits = max_waits
        self._table = StoreTable()
        self._waits: defaultdict[Session, dict[int, StandingWait]] = defaultdict(dict)

    def work(self) -> Iterator[Sending | None]:
        """Yield answers to waits that have ended; None is one more step on the way to them."""
        for wait in self._table.work():
            yield None if wait is None else self._end(wait)

    def answer(self, client: Session, number: int, request: Request) -> Frames | None:
        """Return the answer, if there is one now.

        Raises:
            WireError: Two waits of the client have one number.
        """
        try:
            match request:
                case Add() | Set() | Create():
                    return self._write(client, number, request)
                case Get(keys):
                    return write_values(number, self._table.get(keys))
                case Wait(keys):
                    return self._wait(client, number, keys)
                case Forget(wait):
                    self._take(client, wait)
                case LeaveWill():
                    client.leave_will(request)
                case Bye():
                    client.leave_will(None)
        except TableError as error:
            return [_refusal(number, error)]
        return None

    def carry_out(self, will: Will) -> None:
        """Write what a client that is gone has left."""
        self._table.set(will.values)
        if not any(value is not None for value in self._table.get(will.unless)):
            for key, value in will.create.items():
                with contextlib.suppress(TableError):  # it is full: waits are answered
                    self._table.create(key, value, b"")

    def leave(self, client: Session) -> None:
        """Forget the waits of a client that has no connection: it asks again if it comes back."""
        for wait in self._waits.pop(client, {}).values():
            self._table.forget(wait)

    def _write(self, client: Session, number: int, request: Add | Set | Create) -> Frames:
        outcome: Outcome = None
        if client.is_repeated(number):
            outcome = client.outcome_of(number)
        else:
            try:
                match request:
                    case Add(key, amount):
                        outcome = self._table.add(key, amount)
                    case Set(values, _):
                        self._table.set(values)
                    case Create(key, value, instead_of):
                        outcome = self._table.create(key, value, instead_of)
            except TableError as error:
                outcome = error
            client.note(number, outcome)
        if isinstance(request, Set) and request.keys and outcome is None:
            return write_values(number, self._table.get(request.keys))
        return _frames_of(number, outcome)

    def _wait(self, client: Session, number: int, keys: tuple[str, ...]) -> Frames | None:
        waits = self._waits[client]
        if number in waits:
            raise WireError(f"two waits have the number {number}")
        if len(waits) >= self._max_waits:
            return [write_error(number, f"this client has {len(waits)} waits already")]
        wait = self._table.wait((client, number), keys)
        if wait is None:
            return write_values(number, self._table.get(keys))
        waits[number] = wait
        return None

    def _end(self, wait: StandingWait) -> Sending | None:
        client, number = wait.client
        if client not in self._waits or self._waits[client].get(number) is not wait:
            return None  # it was taken back, or its client is gone
        self._take(client, number)
        values = self._table.get(wait.keys)
        if wait.missing or None in values:  # the node is so late that its round was freed
            return client, [_refusal(number, _ROUND_IS_OVER)]
        return client, write_values(number, values)

    def _take(self, client: Session, number: int) -> None:
        wait = self._waits[client].pop(number, None)
        if wait is not None:
            self._table.forget(wait)


def _frames_of(number: int, outcome: Outcome) -> Frames:
    match outcome:
        case None | int():
            return [write_done(number, outcome)]
        case bytes():
            return write_values(number, [outcome])
        case TableError():
            return [_refusal(number, outcome)]


def _refusal(number: int, error: TableError) -> bytes:
    return write_error(number, str(error), is_over=isinstance(error, RoundOverError))
