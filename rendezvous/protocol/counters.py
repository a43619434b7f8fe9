"""What stands at a counter's key, read as a number."""

from __future__ import annotations

_LARGEST_COUNT = 1 << 53


def count_in(data: bytes | None) -> int:
    """Return how far a counter has come, from what stands at its key.

    Where nothing stands, or what no counter of elrun's comes to, it begins at 0: anybody who
    reaches the store can write there.
    """
    digits = b"" if data is None else data.removeprefix(b"-")
    if data is None or not digits.isdigit() or len(digits) > len(str(_LARGEST_COUNT)):
        return 0
    return int(data)
