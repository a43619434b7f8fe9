"""One stream of watches from a member of etcd."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ...named_tuple import NamedTuple
from .failover import Refused, Unreachable
from .http_connection import ConnectionEndedError, Head, HttpConnection
from .v3_client import Gateway, decode, encode

_OK = 200
_MOST_ERROR_BYTES = 16 << 10


class Range(NamedTuple):
    """What is watched: all keys from the first one up to, but not including, ``end``.

    Args:
        first: The first key.
        end: The end of the range.
        revision: The first revision of interest.
    """

    first: bytes
    end: bytes
    revision: int


class Event(NamedTuple):
    """A change of one key.

    Args:
        name: The key.
        value: What it holds since then; None: it has been deleted.
        revision: etcd's number of the change.
    """

    name: bytes
    value: bytes | None
    revision: int


class Message(NamedTuple):
    """What etcd has written about one range: also, without events, that the range is watched.

    Args:
        number: Which of the ranges.
        events: In the order in which they happened.
        is_cancelled: Whether etcd watches this range no more, such as for a revision that it has
            forgotten.
    """

    number: int
    events: Sequence[Event]
    is_cancelled: bool


class WatchStream:
    """Several ranges, watched over one connection.

    Args:
        gateway: The member of etcd.
        ranges: What is watched.

    Raises:
        Unreachable: The member can't serve now.
        Refused: It refuses.
    """

    def __init__(self, gateway: Gateway, ranges: Sequence[Range]) -> None:
        self._gateway = gateway
        self._wanted = len(ranges)
        self._ids: dict[int, int] = {}
        self._head: Head | None = None
        self._text = b""
        self._connection: HttpConnection = gateway.stream("watch", list(map(_create, ranges)))

    @property
    def is_confirmed(self) -> bool:
        """Whether etcd has said that it watches all ranges; a proxy may hold that back."""
        return len(self._ids) == self._wanted

    def next(self, deadline: float) -> Message | None:
        """Return the next message; None if none has come by then, on the monotonic clock.

        Raises:
            Unreachable: The stream has ended.
            Refused: The member refuses it.
        """
        try:
            while True:
                line, newline, rest = self._text.partition(b"\n")
                if newline:
                    self._text = rest
                    if line.strip():
                        return self._read(line)
                    continue
                self._text += self._next_part(deadline)
        except TimeoutError:
            return None
        except OSError as error:
            raise self._gateway.trouble(error) from error

    def interrupt(self) -> None:
        """Let ``next`` raise at once; from any thread."""
        self._connection.interrupt()

    def close(self) -> None:
        """Let go of the connection; no other thread reads it."""
        self._connection.close()

    def _next_part(self, deadline: float) -> bytes:
        if self._head is None:
            self._head = self._connection.read_head(deadline)
            if self._head.status != _OK:
                raise self._gateway.refusal(self._head, self._rest(deadline))
        part = self._connection.read(deadline)
        if not part:
            if not self._ids:  # a whole page instead of messages
                raise self._gateway.refusal(self._head, self._text)
            raise ConnectionEndedError
        return part

    def _rest(self, deadline: float) -> bytes:
        """Return what comes behind the head of a refusal."""
        text = b""
        with suppress(OSError):
            while len(text) < _MOST_ERROR_BYTES and (part := self._connection.read(deadline)):
                text += part
        return text

    def _read(self, line: bytes) -> Message:
        try:
            message = json.loads(line)
            if "error" in message:
                raise self._broken(f"the watch ended: {message['error']}")
            result = message["result"]
            number = int(result.get("watch_id", 0))
            events = list(map(_event, result.get("events", ())))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise self._broken("what it writes is no message of a watch") from None
        is_cancelled = bool(result.get("canceled"))
        if is_cancelled and "compact_revision" not in result:
            # etcd does not say whether the credentials have expired, or why else.
            self._gateway.log_in_again()
            raise self._broken(f"the watch ended: {result.get('cancel_reason')}")
        if result.get("created"):
            self._ids[number] = len(self._ids)  # in the order in which the ranges were sent
        return Message(self._ids.get(number, 0), events, is_cancelled)

    def _broken(self, why: str) -> Unreachable:
        return Unreachable(f"{self._gateway.endpoint}: {why}")


def open_stream(gateway: Gateway, ranges: Sequence[Range]) -> tuple[WatchStream, list[Message]]:
    """Return a stream, and the first messages; etcd has confirmed it, or a proxy holds that back.

    Raises:
        Unreachable: The member can't serve now.
        Refused: It refuses.
    """
    stream = WatchStream(gateway, ranges)
    early: list[Message] = []
    try:
        deadline = time.monotonic() + gateway.answers_within_s
        while not stream.is_confirmed and time.monotonic() < deadline:
            message = stream.next(deadline)
            early += [message] if message is not None else []
        if not stream.is_confirmed:
            gateway.post("kv/range", {"key": encode(ranges[0].first)})  # does the member answer?
    except (Unreachable, Refused):
        stream.close()
        raise
    return stream, early


def _event(written: Mapping[str, Any]) -> Event:
    kv = written["kv"]
    value = None if written.get("type") == "DELETE" else decode(kv.get("value", ""))
    return Event(decode(kv["key"]), value, int(kv["mod_revision"]))


def _create(wanted: Range) -> dict[str, Any]:
    return {
        "create_request": {
            "key": encode(wanted.first),
            "range_end": encode(wanted.end),
            "start_revision": str(wanted.revision),
        }
    }
