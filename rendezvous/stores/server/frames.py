"""Frames: how one message of the store server's protocol becomes bytes, and bytes a message.

A frame is the length of its content, four bytes, the most significant first, and then its content:
JSON, one object. Where the nodes have a secret, a seal stands before the JSON (``seal.py``). What
can't be read, here, in ``hello.py`` and in ``wire.py``, raises ``WireError``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping

from ...errors import RendezvousError
from ...light_json import json_reader, json_writer
from ...light_typing import Any

MAX_FRAME_BYTES = 16 << 20
"""A value of the largest size fits, as base64, or very many small ones."""

MAX_COMMAS = 1 << 17
"""Commas in a frame: to read millions of tiny keys would hold all other clients up for seconds."""

MAX_NUMBER = 1 << 53

_MOST_DIGITS = 21  # of a counter, its sign, and one more
_HEAD = struct.Struct(">I")
# To read a number of a million digits would take seconds; the protocol has none of so many, and no
# fractions: these become numbers that are out of every range.
_from_json = json_reader(lambda digits: int(digits[:_MOST_DIGITS]), lambda _: 0.5)
_to_json = json_writer()
MAX_TEXT = 1024


class WireError(RendezvousError):
    """The bytes are no message of this protocol."""


class RequestError(WireError):
    """A request can't be carried out; those after it can.

    Args:
        number: The request's.
    """

    def __init__(self, reason: str, number: int) -> None:
        super().__init__(reason)
        self.number = number


class UnsealedError(WireError):
    """A frame has not the seal that it should have.

    Args:
        content: All of the frame's content.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__("a frame isn't sealed with the job's secret")
        self.content = content


class FrameReader:
    """Makes objects of the bytes of one connection, in whatever pieces they come.

    Attributes:
        unseal: Makes a frame's content the text that was sealed; None where frames have no seal.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.unseal: Callable[[bytes], bytes] | None = None
        self._buffer = bytearray()

    @property
    def buffered(self) -> int:
        """How many bytes wait for the rest of their frame."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Yield the objects that are complete now."""
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
            yield object_in(text if self.unseal is None else self.unseal(text))


def write_frame(message: Mapping[str, Any]) -> bytes:
    """Return a message's frame."""
    return framed(_to_json(message).encode())


def framed(content: bytes) -> bytes:
    """Return a frame of this content."""
    return _HEAD.pack(len(content)) + content


def content_of(frame: bytes) -> bytes:
    """Return the content of one whole frame."""
    return frame[_HEAD.size :]


def text_in(fields: Mapping[str, Any], name: str) -> str:
    """Return a text of at most 1024 characters."""
    value = fields.get(name)
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise WireError(f"{name} is no string of at most {MAX_TEXT} characters")
    return value


def whole_number_in(fields: Mapping[str, Any], name: str, low: int, high: int) -> int:
    """Return a whole number of a range."""
    value = fields.get(name)
    if type(value) is not int or not low <= value <= high:  # type(): true is no number
        raise WireError(f"{name} is no number from {low} to {high}")
    return value


def object_in(text: bytes) -> dict[str, Any]:
    """Return the object that a frame's text holds."""
    commas = text.count(b",")
    if commas > MAX_COMMAS:
        reason = f"a frame with {commas} commas, and {MAX_COMMAS} are allowed"
        digits = text[:32].partition(b",")[0].removeprefix(b'{"id":')
        if digits.isdigit() and int(digits) <= MAX_NUMBER:
            raise RequestError(reason, int(digits))
        raise WireError(reason)
    try:
        message = _from_json(text.decode())
    except (ValueError, RecursionError) as error:
        raise WireError(f"{text[:40]!r}… is no JSON") from error
    if not isinstance(message, dict):
        raise WireError(f"{text[:40]!r}… is no JSON object")
    return message
