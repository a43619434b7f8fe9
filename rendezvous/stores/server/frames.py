"""Frames: how one message of the store server's protocol becomes bytes, and bytes a message.

A frame is its length, four bytes, the most significant first, and then that many bytes of JSON: one
object.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import RendezvousError

MAX_FRAME_BYTES = 16 << 20
"""A value of the largest size fits, as base64, or very many small ones."""

MAX_NUMBER = 1 << 53

_HEAD = struct.Struct(">I")
MAX_TEXT = 1024


class WireError(RendezvousError):
    """The bytes are no message of this protocol."""


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


def text_in(fields: Mapping[str, Any], name: str) -> str:
    """Return a text of at most 1024 characters.

    Raises:
        WireError: The message has none of this name.
    """
    value = fields.get(name)
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise WireError(f"{name} is no string of at most {MAX_TEXT} characters")
    return value


def whole_number_in(fields: Mapping[str, Any], name: str, low: int, high: int) -> int:
    """Return a whole number of a range.

    Raises:
        WireError: The message has none of this name.
    """
    value = fields.get(name)
    if type(value) is not int or not low <= value <= high:  # type(): true is no number
        raise WireError(f"{name} is no number from {low} to {high}")
    return value


def _object_in(text: bytes) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError(f"{text[:40]!r}… is no JSON") from error
    if not isinstance(message, dict):
        raise WireError(f"{text[:40]!r}… is no JSON object")
    return message
