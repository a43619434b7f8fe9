"""A watch of ranges of etcd's keys: an answer over HTTP that goes on for ever.

etcd takes several ranges in one request. But its HTTP server, as any of Go's, reads no more of a
request once it has begun to answer, and Go's JSON reader takes 512 bytes at first. So a stream has
as many ranges as these bytes hold, and reports how many of them etcd has confirmed: a proxy may
have divided the request.
"""

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
_READ_AT_ONCE = 512


class Range(NamedTuple):
    """What is watched: all keys from the first one up to, but not including, ``end``."""

    first: bytes
    end: bytes
    revision: int


class Event(NamedTuple):
    """A change of one key.

    Args:
        value: What it holds since then; None: it has been deleted.
        revision: etcd's number of the change.
    """

    name: bytes
    value: bytes | None
    revision: int


class WatchStream:
    """Some ranges, watched over a connection of their own.

    Args:
        wanted: At least one; those that etcd might not read are left out, but never the first one.
    """

    def __init__(self, gateway: Gateway, wanted: Sequence[Range]) -> None:
        self._gateway = gateway
        self._head: Head | None = None
        self._text = b""
        self._connection: HttpConnection = gateway.stream("watch", _create(wanted))
        self.confirmed = 0
        """How many of the ranges etcd has written that it watches; a proxy may hold that back."""
        self.opened_at = time.monotonic()

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is a message."""
        return self._connection.fileno()

    def next(self, deadline: float) -> Sequence[Event] | None:
        """Return the events of the next message; None if none has come by then, on this clock.

        A message without events says that the next one of the ranges is watched from now on.

        What has been received already is returned also after the deadline.
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

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _next_part(self, deadline: float) -> bytes:
        if self._head is None:
            self._head = self._connection.read_head(deadline)
            if self._head.status != _OK:
                raise self._gateway.refusal(self._head, self._rest(deadline))
        part = self._connection.read(deadline)
        if not part:
            if not self.confirmed:  # a whole page instead of messages
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

    def _read(self, line: bytes) -> Sequence[Event]:
        try:
            message = json.loads(line)
            if "error" in message:
                raise self._broken(f"the watch ended: {message['error']}")
            result = message["result"]
            events = list(map(_event, result.get("events", ())))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise self._broken("what it writes is no message of a watch") from None
        if result.get("canceled"):
            if "compact_revision" in result:
                raise self._broken("it has forgotten the revision from which a watch begins")
            # etcd does not say whether the credentials have expired, or why else.
            self._gateway.log_in_again()
            raise self._broken(f"the watch ended: {result.get('cancel_reason')}")
        self.confirmed += bool(result.get("created"))
        return events

    def _broken(self, why: str) -> Unreachable:
        return Unreachable(f"{self._gateway.endpoint}: {why}")


def open_stream(gateway: Gateway, wanted: Sequence[Range]) -> WatchStream:
    """Return a stream that etcd has confirmed; or not yet: then the member answers requests.

    A proxy may hold the stream back; or the member stood still, and confirms it in a moment.
    """
    stream = WatchStream(gateway, wanted)
    try:
        if stream.next(time.monotonic() + gateway.answer_time.seconds) is None:
            gateway.post("kv/range", {"key": encode(wanted[0].first)})  # does the member answer?
    except (Unreachable, Refused):
        stream.close()
        raise
    return stream


def _event(written: Mapping[str, Any]) -> Event:
    kv = written["kv"]
    value = None if written.get("type") == "DELETE" else decode(kv.get("value", ""))
    return Event(decode(kv["key"]), value, int(kv["mod_revision"]))


def _create(wanted: Sequence[Range]) -> str:
    """Return the request for as many ranges as etcd reads for sure."""
    text = ""
    for each in wanted:
        create = {
            "key": encode(each.first),
            "range_end": encode(each.end),
            "start_revision": str(each.revision),
        }
        part = json.dumps({"create_request": create})
        if text and len(text) + len(part) > _READ_AT_ONCE:
            break
        text += part
    return text
