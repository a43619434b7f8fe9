"""What stands in an error file: how much of it at most, and how a damaged one is read.

The format is the one that torch's own ``@record`` writes, so that either side may be torch's::

    {"message": {"message": "ValueError: no such shard",
                 "extraInfo": {"py_callstack": "Traceback …", "timestamp": "1790000000"}}}

torch writes whatever length an exception's text has. A reader that refused what is too long would
lose the reason of exactly those failures that say the most: so the beginning of such a file is
completed to JSON, and the message is in its beginning.
"""

from __future__ import annotations

from ...rendezvous.named_tuple import NamedTuple
from ..system.left_files import LeftFile, LeftFileReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

MAX_ERROR_FILE_BYTES = 1 << 20
"""How much of an error file is read; ours are never longer."""

MAX_MESSAGE_BYTES = 128 << 10
MAX_STACK_BYTES = 512 << 10
"""What our own writer keeps of each, as JSON has it: up to twelve bytes for a character."""

_CLOSING = {"{": "}", "[": "]"}
_LEFT_OUT = "\n... {} characters are left out here ...\n"


class ErrorRecord(NamedTuple):
    """What a process left in its error file.

    Args:
        data: The JSON object; None where there is none that can be understood.
        problem: Why not, as the rest of a sentence about the file; empty where there is no file.
    """

    data: dict[str, Any] | None
    problem: str = ""


def read_error_record(path: str, reader: LeftFileReader) -> ErrorRecord:
    """Return what a process left in its error file.

    Args:
        path: The file; "" is none.
    """
    return understand(reader.read_beginning(path, MAX_ERROR_FILE_BYTES))


def understand(file: LeftFile) -> ErrorRecord:
    """Return what an error file says, as far as it was read."""
    if not file.text:
        return ErrorRecord(None, file.problem)
    data = _parse(file.text) if file.is_whole else _parse_beginning(file.text)
    if not isinstance(data, dict) or "message" not in data:
        return ErrorRecord(None, "is no error record in JSON")
    said = data["message"]
    if isinstance(said, dict):
        said = any(map(said.get, ("message", "errorCode", "extraInfo")))
    if not said and file.is_whole:
        return ErrorRecord(None, "gives no reason")
    return ErrorRecord(data)


def error_record(
    message: str, stack: str, timestamp: int, error_code: int = 0, kinds: Sequence[str] = ()
) -> dict[str, Any]:
    """Return an error file's content, of a length that a reader takes.

    Args:
        message: What went wrong.
        stack: The traceback, or what else explains it; may be empty.
        timestamp: When, in seconds since the epoch.
        error_code: The exit code of the process that failed, where another one writes the record.
        kinds: Full names of the exception's type and of those that it is derived from.
    """
    extra = {"py_callstack": clipped(stack, MAX_STACK_BYTES, begin=0.25)} if stack else {}
    types = {"type": kinds[0], "bases": list(kinds[1:])} if kinds else {}
    said = {
        "message": clipped(message, MAX_MESSAGE_BYTES),
        "extraInfo": {**extra, "timestamp": str(timestamp), **types},
    }
    return {"message": {**said, "errorCode": error_code} if error_code else said}


def shortened(data: dict[str, Any], limit: int) -> str:
    """Return an error record as JSON of a limited length, its message first.

    Args:
        data: The record, whoever made it.
        limit: The number of bytes.
    """
    text = json_of(data)
    if len(text) <= limit:
        return text
    message = data["message"] if isinstance(data["message"], dict) else {"message": data["message"]}
    extra = message.get("extraInfo")
    stack = str(extra.get("py_callstack") or "") if isinstance(extra, dict) else ""
    code = message.get("errorCode")
    said: dict[str, Any] = {"message": clipped(str(message.get("message")), limit // 2)}
    if isinstance(code, int):
        said["errorCode"] = code
    room = limit - len(json_of({"message": {**said, "extraInfo": {"py_callstack": ""}}}))
    return json_of(
        {"message": {**said, "extraInfo": {"py_callstack": clipped(stack, room, begin=0.0)}}}
    )


def clipped(text: str, limit: int, begin: float = 0.75) -> str:
    """Return a text that takes no more than so many bytes in JSON: its beginning and its end.

    Args:
        limit: Number of bytes, a hundred at least.
        begin: What share of what is kept is from the beginning.
    """
    kept = min(len(text), limit)
    short = text if kept == len(text) else _without_middle(text, kept, begin)
    while (size := len(json_of(short))) > limit and kept:
        kept = min(kept * 3 // 4, kept * limit // size)
        short = _without_middle(text, kept, begin)
    return short


def json_of(value: Any) -> str:
    """Return a value as JSON in ASCII."""
    import json  # 3 ms of a restart; most workers leave no error file

    return json.dumps(value)


def _without_middle(text: str, kept: int, begin: float) -> str:
    first = int(kept * begin)
    last = kept - first
    return text[:first] + _LEFT_OUT.format(len(text) - kept) + text[len(text) - last :]


def _parse(text: bytes | str) -> Any:
    import json  # 3 ms of a restart; most workers leave no error file

    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # cut off, foreign, or too deep
        return None


def _parse_beginning(beginning: bytes) -> Any:
    """Return the value of a JSON text whose end is missing, as far as it is told; else None."""
    import re  # long error files only

    text = beginning.decode("utf-8", "ignore")
    open_ends: list[str] = []
    for match in re.finditer(r'"[^"\\]*(?:\\.[^"\\]*)*"|[][{}"]', text, re.DOTALL):
        found = match[0]
        if found in _CLOSING:
            open_ends.append(_CLOSING[found])
        elif found in _CLOSING.values() and open_ends:
            open_ends.pop()
        elif found == '"':  # a string that is cut off; so may be the escape at its end
            whole = re.compile(r'"(?:[^"\\]+|\\u[0-9a-fA-F]{4}|\\[^u])*').match(text, match.start())
            text = text[: whole.end() if whole else match.end()] + '"'
            break
    closing = "".join(reversed(open_ends))
    # A number or a literal may be cut off.
    without_word = text[: 1 + max(text.rfind(each) for each in '[]{}",:')]
    for end in (text, f"{text}:null", f"{without_word}null", without_word.rstrip(",")):
        if (value := _parse(end + closing)) is not None:
            return value
    return None
