"""Reads which exceptions led to the one that ended a worker, from its traceback.

``raise … from …`` and an exception in an ``except`` block make a chain. The last one says that
something went wrong, and often an earlier one says what.
"""

from __future__ import annotations

from ...rendezvous.named_tuple import NamedTuple

MOST_CAUSES = 3

_DIRECT = "The above exception was the direct cause of the following exception:"
_CONTEXT = "During handling of the above exception, another exception occurred:"
_TITLE = "Traceback (most recent call last):"
_MOST_CHARS = 300
_OF_ANOTHER_PROCESS = "RemoteTraceback"
"""Process pools chain such a one to an exception of another process; its text is a traceback."""


class Cause(NamedTuple):
    """An earlier exception of a chain.

    Args:
        words: Its type and the first line of its text.
        is_direct: Whether the next one was raised from it; else while it was handled.
        left_out: How many exceptions between it and the next one are left out.
    """

    words: str
    is_direct: bool
    left_out: int = 0


def causes_in(text: str) -> list[Cause]:
    """Return the earlier exceptions of a chain, the nearest to its end first.

    Of a long chain these are the nearest ones and the first of all, which says most.

    Args:
        text: A traceback as Python prints it.
    """
    found: list[Cause] = []
    words = ""
    is_in_stack = False
    for line in text.splitlines():
        if line == _TITLE:
            is_in_stack, words = True, ""
        elif line in (_DIRECT, _CONTEXT):
            if words and not words.partition(":")[0].endswith(_OF_ANOTHER_PROCESS):
                found.insert(0, Cause(words[:_MOST_CHARS], is_direct=line == _DIRECT))
            words = ""
        elif is_in_stack and line[:1] not in (" ", ""):
            is_in_stack, words = False, line.rstrip()
        elif not is_in_stack and words.endswith(":") and line.strip():  # a text of several lines
            words = f"{words} {line.strip()}"
    left_out = len(found) - MOST_CAUSES
    if left_out <= 0:
        return found
    return [*found[: MOST_CAUSES - 1], found[-1]._replace(left_out=left_out)]
