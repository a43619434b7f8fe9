"""Reads JSON objects that somebody else has written, who may have written anything."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def object_in(data: bytes | str) -> dict[str, Any]:
    """Return the object that a text holds.

    Raises:
        ValueError: It holds none.
    """
    try:
        found = json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(found, dict):
        raise ValueError(f"not an object but a JSON {type(found).__name__}")
    return found
