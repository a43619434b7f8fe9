"""What the store server and its clients send each other, as bytes and back.

A frame is its length, four bytes, the most significant first, and then that many bytes of JSON: one
object. A value is base64 in it, so that its size is known beforehand, whatever bytes it has.

A client begins with who it is, and is answered once, with a welcome or a refusal:

    {"elrun":1,"hello":{"run":"job","host":"b","node_rank":1,"nodes":2}}
    {"elrun":1,"welcome":"a1b2"}
    {"elrun":1,"refused":"run","reason":"…"}

Then it asks, by a number of its own, and each answer bears that number; they may come in any order,
and a ``wait`` is answered when the last of its keys is there:

    {"id":1,"do":"add","key":"seats","amount":1}                   {"id":1,"count":5}
    {"id":2,"do":"set","values":{"a":"MQ=="}}                      {"id":2}
    {"id":3,"do":"get","keys":["a","b"]}                           {"id":3,"values":["MQ==",null]}
    {"id":4,"do":"create","key":"c","value":"Mg==","instead_of":""}  {"id":4,"values":["Mg=="]}
    {"id":5,"do":"wait","keys":["d"]}                              {"id":5,"values":["Mw=="]}
    {"id":6,"do":"forget","wait":5}

``forget`` has no answer, and takes a wait back. Many values come in several answers, of which all
but the last say ``"more":true``. What can't be done is answered by ``{"id":7,"error":"…"}``.
"""

from __future__ import annotations

import json
import struct
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ...errors import RendezvousError

VERSION = 1

MAX_HELLO_BYTES = 8 << 10
MAX_VALUE_BYTES = 8 << 20
MAX_FRAME_BYTES = 16 << 20
"""A value of the largest size fits, as base64, or very many small ones."""
MAX_KEY_CHARACTERS = 8 << 10
MAX_AMOUNT = 1 << 53

_HEAD = struct.Struct(">I")
_MAX_ID = 1 << 53
_MAX_TEXT = 1024


class WireError(RendezvousError):
    """What came is not what this protocol sends."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Who a client is.

    Args:
        run_id: The job that it is a node of.
        host: Name of its host, for people.
        node_rank: Its place among the nodes.
        nodes: How many there are, as far as it was told.
        server: If it hosts a store itself, and only asks who hosts this one: that store's mark.
    """

    run_id: str
    host: str
    node_rank: int
    nodes: int
    server: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a client is turned away.

    Args:
        kind: A word for programs.
        reason: A sentence for people.
    """

    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Add:
    """Add to a counter."""

    key: str
    amount: int


@dataclass(frozen=True, slots=True)
class Set:
    """Write values."""

    values: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Get:
    """Read values."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Create:
    """Write a value once, or in place of one that is known."""

    key: str
    value: bytes
    instead_of: bytes


@dataclass(frozen=True, slots=True)
class Wait:
    """Be answered once all keys are there."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Forget:
    """Take a wait back."""

    wait: int


Request: TypeAlias = Add | Set | Get | Create | Wait | Forget


class FrameReader:
    """Makes objects of the bytes of one connection, in whatever pieces they come.

    Args:
        limit: Bytes that a frame may have; may be raised later.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Yield the objects that are complete now.

        Raises:
            WireError: A frame is too long, or holds no JSON object.
        """
        self._buffer += data
        while len(self._buffer) >= _HEAD.size:
            (length,) = _HEAD.unpack_from(self._buffer)
            if length > self.limit:
                raise WireError(f"a frame of {length} bytes, and {self.limit} are allowed")
            end = _HEAD.size + length
            if len(self._buffer) < end:
                return
            text = bytes(self._buffer[_HEAD.size : end])
            del self._buffer[:end]
            yield _object_in(text)


def write_frame(message: Mapping[str, Any]) -> bytes:
    """Return a message's frame."""
    text = json.dumps(message, separators=(",", ":")).encode()
    return _HEAD.pack(len(text)) + text


def write_hello(hello: Hello) -> bytes:
    """Return the frame that a client begins with."""
    fields: dict[str, Any] = {
        "run": hello.run_id,
        "host": hello.host,
        "node_rank": hello.node_rank,
        "nodes": hello.nodes,
    }
    if hello.server:
        fields["server"] = hello.server
    return write_frame({"elrun": VERSION, "hello": fields})


def read_hello(message: Mapping[str, Any]) -> Hello | int:
    """Return who a client is, or the version that it speaks, if that is another one.

    Raises:
        WireError: It is no such message.
    """
    version = _whole_number(message, "elrun", 0, _MAX_ID)
    if version != VERSION:
        return version
    fields = message.get("hello")
    if not isinstance(fields, dict):
        raise WireError("a client begins with a hello")
    host = _text(fields, "host")
    if not host.isprintable():  # it stands in sentences for people
        raise WireError("host is no name")
    return Hello(
        run_id=_text(fields, "run"),
        host=host,
        node_rank=_whole_number(fields, "node_rank", 0, (1 << 31) - 1),
        nodes=_whole_number(fields, "nodes", 1, (1 << 31) - 1),
        server=_text(fields, "server") if "server" in fields else "",
    )


def write_welcome(mark: str) -> bytes:
    """Return the answer to a client that is let in; the mark is the store's own."""
    return write_frame({"elrun": VERSION, "welcome": mark})


def write_refusal(refusal: Refusal) -> bytes:
    """Return the answer to a client that is turned away."""
    return write_frame({"elrun": VERSION, "refused": refusal.kind, "reason": refusal.reason})


def read_answer_to_hello(message: Mapping[str, Any]) -> str | Refusal:
    """Return the mark of the store that welcomes this client, or why it doesn't.

    Raises:
        WireError: It is neither.
    """
    if "refused" in message:
        return Refusal(_text(message, "refused"), _text(message, "reason"))
    _whole_number(message, "elrun", VERSION, VERSION)
    return _text(message, "welcome")


def write_request(number: int, request: Request) -> bytes:
    """Return the frame of a request."""
    fields: dict[str, Any]
    match request:
        case Add(key, amount):
            fields = {"do": "add", "key": key, "amount": amount}
        case Set(values):
            fields = {"do": "set", "values": {k: _encoded(v) for k, v in values.items()}}
        case Get(keys):
            fields = {"do": "get", "keys": keys}
        case Create(key, value, instead_of):
            fields = {
                "do": "create",
                "key": key,
                "value": _encoded(value),
                "instead_of": _encoded(instead_of),
            }
        case Wait(keys):
            fields = {"do": "wait", "keys": keys}
        case Forget(wait):
            fields = {"do": "forget", "wait": wait}
    return write_frame({"id": number, **fields})


def read_request(message: Mapping[str, Any]) -> tuple[int, Request]:
    """Return a request and its number.

    Raises:
        WireError: It is none.
    """
    number = _whole_number(message, "id", 0, _MAX_ID)
    match message.get("do"):
        case "add":
            amount = _whole_number(message, "amount", -MAX_AMOUNT, MAX_AMOUNT)
            return number, Add(_key(message.get("key")), amount)
        case "set":
            values = message.get("values")
            if not isinstance(values, dict):
                raise WireError("values is no object")
            return number, Set({_key(key): _decoded(value) for key, value in values.items()})
        case "get":
            return number, Get(_keys(message))
        case "create":
            value, instead_of = (_decoded(message.get(name)) for name in ("value", "instead_of"))
            return number, Create(_key(message.get("key")), value, instead_of)
        case "wait":
            return number, Wait(_keys(message))
        case "forget":
            return number, Forget(_whole_number(message, "wait", 0, _MAX_ID))
        case other:
            raise WireError(f"do is {str(other)[:40]!r}")


def write_count(number: int, count: int) -> bytes:
    """Return the answer to ``add``."""
    return write_frame({"id": number, "count": count})


def write_values(number: int, values: Sequence[bytes | None]) -> Iterator[bytes]:
    """Yield the frames of an answer, each of which is short enough."""
    begin = 0
    while True:
        end, size = begin, 0
        while end < len(values) and (end == begin or size < MAX_VALUE_BYTES // 2):
            size += len(values[end] or b"")
            end += 1
        part = [None if value is None else _encoded(value) for value in values[begin:end]]
        if end >= len(values):
            yield write_frame({"id": number, "values": part})
            return
        yield write_frame({"id": number, "values": part, "more": True})
        begin = end


def write_done(number: int) -> bytes:
    """Return the answer to ``set``."""
    return write_frame({"id": number})


def write_error(number: int, reason: str) -> bytes:
    """Return the answer to what can't be done."""
    return write_frame({"id": number, "error": reason})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered, or a part of that.

    Args:
        number: The request's.
        values: Of ``get``, ``create`` and ``wait``.
        count: Of ``add``.
        has_more: Whether another part follows.
        error: What could not be done.
    """

    number: int
    values: tuple[bytes | None, ...] = ()
    count: int = 0
    has_more: bool = False
    error: str = ""


def read_answer(message: Mapping[str, Any]) -> Answer:
    """Return an answer.

    Raises:
        WireError: It is none.
    """
    values = message.get("values", [])
    if not isinstance(values, list):
        raise WireError("values is no list")
    return Answer(
        number=_whole_number(message, "id", 0, _MAX_ID),
        values=tuple(None if value is None else _decoded(value) for value in values),
        count=_whole_number(message, "count", -(1 << 63), 1 << 63) if "count" in message else 0,
        has_more=message.get("more") is True,
        error=_text(message, "error") if "error" in message else "",
    )


def _object_in(text: bytes) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError(f"{text[:40]!r}… is no JSON") from error
    if not isinstance(message, dict):
        raise WireError(f"{text[:40]!r}… is no JSON object")
    return message


def _encoded(value: bytes) -> str:
    return b2a_base64(value, newline=False).decode("ascii")


def _decoded(text: object) -> bytes:
    if not isinstance(text, str):
        raise WireError("a value is no string")
    try:
        value = a2b_base64(text)
    except (Base64Error, ValueError) as error:
        raise WireError("a value is no base64") from error
    if _encoded(value) != text:  # Python passes over what is no base64
        raise WireError("a value is no base64")
    if len(value) > MAX_VALUE_BYTES:
        raise WireError(f"a value of {len(value)} bytes, and {MAX_VALUE_BYTES} are allowed")
    return value


def _key(text: object) -> str:
    if not isinstance(text, str) or not 0 < len(text) <= MAX_KEY_CHARACTERS:
        raise WireError(f"a key is a string of at most {MAX_KEY_CHARACTERS} characters")
    return text


def _keys(message: Mapping[str, Any]) -> tuple[str, ...]:
    keys = message.get("keys")
    if not isinstance(keys, list):
        raise WireError("keys is no list")
    return tuple(map(_key, keys))


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise WireError(f"{name} is no string of at most {_MAX_TEXT} characters")
    return value


def _whole_number(fields: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = fields.get(name)
    if type(value) is not int or not low <= value <= high:  # type(): true is no number
        raise WireError(f"{name} is no number from {low} to {high}")
    return value
