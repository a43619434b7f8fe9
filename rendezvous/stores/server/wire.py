"""The requests of a store server's clients and their answers, as bytes and back.

``docs/protocol.md`` shows each message, and says what it means.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator, Mapping, Sequence

from ...light_json import json_writer
from ...light_typing import Any, TypeAlias
from ...named_tuple import Bare, NamedTuple
from ..store import Will
from .frames import (
    MAX_COMMAS,
    MAX_FRAME_BYTES,
    MAX_NUMBER,
    RequestError,
    WireError,
    framed,
    text_in,
    whole_number_in,
    write_frame,
)

MOST_KEYS = MAX_COMMAS - 1
"""Keys of one request: its commas are between them, and after its number and its kind."""

MAX_VALUE_BYTES = 8 << 20
MAX_KEY_CHARACTERS = 8 << 10
MAX_ANSWER_BYTES = 128 << 20
"""Bytes of all values of one answer."""
MAX_AMOUNT = 1 << 53

_SHORT_ANSWER_BYTES = 64 << 10
_REFERENCE_BYTES = 8  # an answer may have very many values that are not there
_MAX_WILL_KEYS = 64
_MAX_WILL_BYTES = 64 << 10
MAX_AFTER_MS = 60_000
_SEAL_BYTES = 32
# No string of JSON has a line break in it.
_to_lines = json_writer("\n")


class Add(NamedTuple):
    """Add to a counter."""

    key: str
    amount: int


class Set(NamedTuple):
    """Write values, and then read others."""

    values: Mapping[str, bytes]
    keys: tuple[str, ...] = ()


class Get(NamedTuple):
    """Read values."""

    keys: tuple[str, ...]


class Create(NamedTuple):
    """Write a value once, or in place of one that is known."""

    key: str
    value: bytes
    instead_of: bytes


class Wait(NamedTuple):
    """Be answered once all keys are there."""

    keys: tuple[str, ...]


class Forget(NamedTuple):
    """Take a wait back."""

    wait: int


class LeaveWill(NamedTuple):
    """Say what is to be written if this client is gone without a bye.

    Args:
        after_ms: For how long the server waits for the client to come back, in milliseconds.
    """

    will: Will
    after_ms: int


class Bye(Bare):
    """End the session on purpose: the will is not carried out."""


Request: TypeAlias = Add | Set | Get | Create | Wait | Forget | LeaveWill | Bye


def write_request(number: int, request: Request) -> bytes:
    """Return the frame of a request; commas within strings are escaped.

    Raises:
        ValueError: The server would not take so large a frame.
    """
    fields: dict[str, Any]
    match request:
        case Add(key, amount):
            fields = {"do": "add", "key": key, "amount": amount}
        case Set(values, keys):
            fields = {"do": "set", "values": {k: _encoded(v) for k, v in values.items()}}
            fields |= {"keys": keys} if keys else {}
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
        case LeaveWill(will, after_ms):
            fields = {
                "do": "will",
                "after_ms": after_ms,
                "values": {k: _encoded(v) for k, v in will.values.items()},
                "create": {k: _encoded(v) for k, v in will.create.items()},
                "unless": will.unless,
            }
        case Bye():
            fields = {"do": "bye"}
    text = _to_lines({"id": number, **fields}).replace(",", "\\u002c").replace("\n", ",")
    commas = text.count(",")
    if commas > MAX_COMMAS or len(text) > MAX_FRAME_BYTES - _SEAL_BYTES:
        raise ValueError(
            f"a request of {len(text)} bytes with {commas} commas is larger than the store takes"
        )
    return framed(text.encode())


def read_request(message: Mapping[str, Any]) -> tuple[int, Request]:
    """Return a request and its number.

    Raises:
        RequestError: What has this number is no request.
        WireError: It has no number.
    """
    number = whole_number_in(message, "id", 0, MAX_NUMBER)
    try:
        return number, _request_in(message)
    except WireError as error:
        raise RequestError(str(error), number) from error


def _request_in(message: Mapping[str, Any]) -> Request:
    match message.get("do"):
        case "add":
            amount = whole_number_in(message, "amount", -MAX_AMOUNT, MAX_AMOUNT)
            return Add(_key(message.get("key")), amount)
        case "set":
            keys = _keys(message, "keys") if "keys" in message else ()
            return Set(_values(message, "values"), keys)
        case "get":
            return Get(_keys(message, "keys"))
        case "create":
            value, instead_of = (_decoded(message.get(name)) for name in ("value", "instead_of"))
            return Create(_key(message.get("key")), value, instead_of)
        case "wait":
            return Wait(_keys(message, "keys"))
        case "forget":
            return Forget(whole_number_in(message, "wait", 0, MAX_NUMBER))
        case "will":
            return _will_in(message)
        case "bye":
            return Bye()
        case _:
            raise WireError("do is no request of this protocol")


def _will_in(message: Mapping[str, Any]) -> LeaveWill:
    values, create = _values(message, "values"), _values(message, "create")
    will = Will(values, create, _keys(message, "unless"))
    if len(will.values) + len(will.create) + len(will.unless) > _MAX_WILL_KEYS:
        raise WireError(f"a will has at most {_MAX_WILL_KEYS} keys")
    if size_of(will) > _MAX_WILL_BYTES:
        raise WireError(f"a will has at most {_MAX_WILL_BYTES} bytes")
    return LeaveWill(will, whole_number_in(message, "after_ms", 0, MAX_AFTER_MS))


def size_of(will: Will) -> int:
    """Return the bytes that a will takes."""
    written = (*will.values.items(), *will.create.items())
    return sum(len(key) + len(value) for key, value in written) + sum(map(len, will.unless))


def write_done(number: int, count: int | None = None) -> bytes:
    """Return the answer to ``set``, or to ``add``: the counter as it is now."""
    return write_frame({"id": number} if count is None else {"id": number, "count": count})


class LongAnswer(NamedTuple):
    """An answer whose frames are made when its client has read those before.

    Args:
        size: Bytes of its values, and of the references to them.
    """

    frames: Iterator[bytes]
    size: int


def write_values(number: int, values: Sequence[bytes | None]) -> LongAnswer | list[bytes]:
    """Return the frames of an answer, each of which is short enough."""
    size = sum([len(value) for value in values if value is not None])
    if size > MAX_ANSWER_BYTES:
        reason = f"these values have {size} bytes, and {MAX_ANSWER_BYTES} are allowed at a time"
        return [write_error(number, reason)]
    size += _REFERENCE_BYTES * len(values)
    if size > _SHORT_ANSWER_BYTES:
        return LongAnswer(_frames_of(number, values), size)
    return [_frame_of(number, values)]


def _frames_of(number: int, values: Sequence[bytes | None]) -> Iterator[bytes]:
    begin = 0
    while True:
        end, size = begin, 0
        while end < len(values):
            size += len(values[end] or b"")
            if size > MAX_VALUE_BYTES // 2 and end > begin:
                break
            end += 1
        if end >= len(values):
            yield _frame_of(number, values[begin:])
            return
        yield _frame_of(number, values[begin:end], {"more": True})
        begin = end


def _frame_of(
    number: int, values: Sequence[bytes | None], more: Mapping[str, bool] | None = None
) -> bytes:
    part = [None if value is None else _encoded(value) for value in values]
    return write_frame({"id": number, "values": part, **(more or {})})


def write_error(number: int, reason: str, *, is_over: bool = False) -> bytes:
    """Return the answer to what can't be done.

    Args:
        is_over: Whether that is so because the round was freed.
    """
    over = {"over": True} if is_over else {}
    return write_frame({"id": number, "error": reason, **over})


class Answer(NamedTuple):
    """What a request was answered, or a part of that.

    Args:
        values: Of ``get``, ``create`` and ``wait``.
        amount: Of ``add``: the counter as it is now.
        has_more: Whether another part follows.
        error: What could not be done.
        is_over: Whether that is so because the round was freed.
    """

    number: int
    values: tuple[bytes | None, ...] = ()
    amount: int = 0
    has_more: bool = False
    error: str = ""
    is_over: bool = False


def read_answer(message: Mapping[str, Any]) -> Answer:
    """Return an answer."""
    values = message.get("values", [])
    if not isinstance(values, list):
        raise WireError("values is no list")
    return Answer(
        number=whole_number_in(message, "id", 0, MAX_NUMBER),
        values=tuple(None if value is None else _decoded(value) for value in values),
        amount=whole_number_in(message, "count", -(1 << 63), 1 << 63) if "count" in message else 0,
        has_more=message.get("more") is True,
        error=text_in(message, "error") if "error" in message else "",
        is_over=message.get("over") is True,
    )


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


def _keys(message: Mapping[str, Any], name: str) -> tuple[str, ...]:
    keys = message.get(name)
    if not isinstance(keys, list):
        raise WireError(f"{name} is no list")
    if len(set(map(_key, keys))) < len(keys):
        raise WireError(f"{name} has a key twice")
    return tuple(keys)


def _values(message: Mapping[str, Any], name: str) -> dict[str, bytes]:
    values = message.get(name)
    if not isinstance(values, dict):
        raise WireError(f"{name} is no object")
    return {_key(key): _decoded(value) for key, value in values.items()}
