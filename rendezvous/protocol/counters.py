"""Reads the value at a counter's key as a number."""

from __future__ import annotations

_LARGEST_COUNT = 1 << 53


def count_in(data: bytes | None) -> int:
    """Return the number at a counter's key.

    A missing value counts as 0, and so does a value that no counter of elrun's can have: every
    process that reaches the store can write to the key.
    """
    digits = b"" if data is None else data.removeprefix(b"-")
    if data is None or not digits.isdigit() or len(digits) > len(str(_LARGEST_COUNT)):
        return 0
    return int(data)
