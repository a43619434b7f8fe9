"""Writes an exception that ends a worker as an error record, with what the process has at hand.

It runs in the user's process while that dies. A library that it imported could be a file of the
user's beside the script (``json.py``), or need memory that is not there. So traceback and JSON are
written by hand, from builtin modules only. Everything is bounded: frames, causes, groups, texts.
The record has the form that torch's own ``@record`` writes (`agent/failures/error_record.py`).
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType

    _Runs = tuple[list[tuple[str, int, str, int]], int]
    _Note = tuple[bool, str, str, str, _Runs, str, str]
    """Whether it tells why; message; what stands above the frames; their title; frames; what stands
    below them; further fields."""

_MESSAGE_CHARS = 60_000
_STACK_CHARS = 150_000
_MOST_CAUSES = 20
_MOST_EXITS = 20
_MOST_MEMBERS = 15
_MOST_BASES = 30
_DEEPEST_GROUP = 4
_DASHES_OF_A_GROUP = 36
_FIRST_FRAMES, _LAST_FRAMES = 50, 150
_EQUAL_FRAMES = 3
_REMARK_CHARS = 300
_LINES_OF_A_PROCESS = 20
_MOST_SOURCE_BYTES = 1 << 22
_LINE_CHARS = 500
_KIND, _REGULAR = 0o170000, 0o100000

_STACK = "Stack (most recent call last):\n"
_TRACEBACK = "Traceback (most recent call last):\n"
_CAUSE = "The above exception was the direct cause of the following exception:"
_CONTEXT = "During handling of the above exception, another exception occurred:"
_ESCAPES = {**{code: f"\\u{code:04x}" for code in (*range(32), 127)}, 34: '\\"', 92: "\\\\"}


def record_of(error: BaseException, remark: str = "", before: str = "") -> str:
    """Return the record of an exception, as JSON.

    Args:
        remark: What a reader must know of its end; it stands after the message's first line.
        before: Which thread an exception had ended before, as ``end_of_thread`` says it.
    """
    message, stack, more = _parts_of(error, remark)
    return _record(message, stack, more, before)


def _parts_of(error: BaseException, remark: str = "") -> tuple[str, str, str]:
    message = _clipped(_headline(error), _MESSAGE_CHARS)
    remarks = [*filter(None, [remark]), *_remarks_of(error)]
    if remarks:
        first, newline, rest = message.partition("\n")
        message = f"{first} ({'; '.join(remarks)}){newline}{rest}"
    try:
        stack = "".join(_text_of_chain(error))
    except MemoryError:
        stack = ""
    name, *bases = (_quoted(_name_of(each)) for each in type(error).__mro__[:_MOST_BASES])
    return message, stack, f'"type": {name}, "bases": [{", ".join(bases)}]'


def _record(message: str, stack: str, more: str, before: str) -> str:
    stack = _clipped(stack, _STACK_CHARS, begin=0.25)
    earlier = f', "before": {_quoted(before)}' if before else ""
    return (
        f'{{"message": {{"message": {_quoted(message)}, "extraInfo": {{"py_callstack": '
        f'{_quoted(stack)}, "timestamp": "{int(time.time())}", {more}{earlier}}}}}}}'
    )


def record_of_note(note: _Note, before: str = "") -> str:
    """Return the record of a program that ended itself.

    Args:
        note: What was noted of that.
        before: Which thread had ended before, as ``end_of_thread`` says it.
    """
    _, message, above, title, place, below, more = note
    frames = _shown_frames(*place)
    return _record(
        message, "".join([above, *([title] if frames else []), *frames, below]), more, before
    )


def note_of_exit(
    status: object,
    error: BaseException | None,
    caller: FrameType | None,
    trace: TracebackType | None,
) -> _Note:
    """Return what is known of an exit: its text, or the exception that is handled; and its place.

    It keeps no frame alive, and has no line of a file: a program may catch a thousand exits, and
    only the last one counts.

    Args:
        status: What ``sys.exit`` or ``SystemExit`` was given: neither None nor 0.
        error: The exception that was handled then.
        caller: The frame that called ``sys.exit``; None: a SystemExit was raised.
        trace: The frames that the SystemExit has ended.
    """
    error, place = _before_exits(error), _place_of(caller, trace)
    text: object = status
    if isinstance(status, int):
        how = "raised SystemExit" if caller is None else "called sys.exit"
        handled = _note_of_handled(int(status), error)
        text = None if handled else _text_printed_by(caller)
        if text is None:
            return handled or _note_of_place(how, int(status), place)
    message, below, more = _parts_of(SystemExit(text))
    above = [] if error is None else [*_text_of_chain(error), f"\n{_CONTEXT}\n\n"]
    return True, message, "".join(above), _TRACEBACK, place, below, more


def note_of_end_at_once(
    status: int, error: BaseException | None, caller: FrameType | None, where: str
) -> _Note:
    """Return what is known of a call of ``os._exit``, as ``note_of_exit`` does.

    Args:
        caller: The frame that called it; None: C has called it.
        where: `` in thread 'loader'``, `` from atexit``, or empty.
    """
    handled = _note_of_handled(status, _before_exits(error), where)
    return handled or _note_of_place("called os._exit", status, _place_of(caller, None), where)


def _note_of_handled(status: int, error: BaseException | None, where: str = "") -> _Note | None:
    if error is None or isinstance(error, SystemExit):
        return None
    message, stack, more = _parts_of(error, f"handled{where}, then exit({status})")
    return True, message, stack, "", ([], 0), "", more


def _note_of_place(how: str, status: int, place: _Runs, where: str = "") -> _Note:
    more = f'"exit_status": {status}'
    return False, f"{how}({status}){where}", "", _STACK, place, "", more


def _before_exits(error: BaseException | None) -> BaseException | None:
    for _ in range(_MOST_EXITS):  # one leads to the next
        if not isinstance(error, SystemExit):
            break
        error = error.__context__
    return error


def _text_printed_by(caller: FrameType | None) -> str | None:
    """Return the text that ``exit`` of argparse and optparse prints before it leaves."""
    if caller is None or caller.f_code.co_name != "exit":
        return None
    names = caller.f_locals
    text = names.get("message", names.get("msg"))
    return text.strip() or None if isinstance(text, str) else None


def _place_of(caller: FrameType | None, trace: TracebackType | None) -> _Runs:
    if caller is None:
        return _runs_of(trace)
    runs: list[tuple[str, int, str, int]] = []
    frame: FrameType | None = caller
    while frame is not None and len(runs) < _FIRST_FRAMES + _LAST_FRAMES:
        runs.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, 1))
        frame = frame.f_back
    return runs[::-1], 0


def end_of_thread(error: BaseException, thread: str) -> str:
    """Say that an exception ended a thread, and where: ``KeyError: 'lr' ended thread 'a' in …``."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f" in {code.co_name} ({code.co_filename}, line {trace.tb_lineno})"
        trace = trace.tb_next
    words = _first_line(_headline(error))[:_REMARK_CHARS]
    return f"{words} ended {thread}{place[:_LINE_CHARS]}"


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"[:_LINE_CHARS]


def _shown_name_of(kind: type) -> str:
    """Return a type's name as Python shows it: ``locale.Error``, but ``ValueError``."""
    if kind.__module__ in ("builtins", "__main__"):
        return kind.__qualname__[:_LINE_CHARS]
    return _name_of(kind)


def _headline(error: BaseException, depth: int = 0) -> str:
    text = _text_of(error)
    name = _shown_name_of(type(error))
    headline = f"{name}: {text}" if text else name
    members = _members_of(error)[:_EQUAL_FRAMES] if depth < _DEEPEST_GROUP else ()
    lines = [_first_line(_headline(each, depth + 1)) for each in members]
    return ": ".join([headline, "; ".join(lines)]) if lines else headline


def _remarks_of(error: BaseException) -> list[str]:
    """Return what else the first line must say: notes, and the last word of a process."""
    notes = _notes_of(error)
    said = [f"note: {_first_line(note)[:_REMARK_CHARS]}" for note in notes[:_EQUAL_FRAMES]]
    lines = _last_lines_of_process(error)
    return [*said, f"its output ends: {lines[-1][:_REMARK_CHARS]}"] if lines else said


def _notes_of(error: BaseException) -> list[str]:
    notes = _attribute_of(error, "__notes__")
    return [_text_of(each) for each in notes[:_MOST_MEMBERS]] if isinstance(notes, list) else []


def _last_lines_of_process(error: BaseException) -> list[str]:
    """Return the end of what a process printed, where the exception tells of one and has that.

    ``subprocess`` puts it there if it captured the output; Python prints nothing of it.
    """
    for name in ("stderr", "output") if _attribute_of(error, "cmd") is not None else ():
        printed = _attribute_of(error, name)
        if isinstance(printed, bytes):
            printed = printed[-_MESSAGE_CHARS:].decode("utf-8", "replace")
        if isinstance(printed, str):
            lines = [each.rstrip() for each in printed[-_MESSAGE_CHARS:].splitlines()]
            if any(lines):
                return [each for each in lines if each][-_LINES_OF_A_PROCESS:]
    return []


def _attribute_of(error: BaseException, name: str) -> object:
    try:
        return getattr(error, name, None)
    except BaseException:  # noqa: BLE001  the user's __getattr__
        return None


def _text_of(error: object) -> str:
    try:
        return str(error)
    except BaseException:  # noqa: BLE001  the user's __str__
        return "<exception str() failed>"


def _text_of_chain(error: BaseException, depth: int = 0) -> list[str]:
    """Return the pieces of an exception's traceback, its causes first, as Python prints them."""
    chain: list[tuple[BaseException, str]] = []
    seen: set[int] = set()
    cause: BaseException | None = error
    link = ""
    while cause is not None and id(cause) not in seen and len(chain) < _MOST_CAUSES:
        seen.add(id(cause))
        chain.append((cause, link))
        if cause.__cause__ is not None:
            cause, link = cause.__cause__, _CAUSE
        else:
            cause, link = None if cause.__suppress_context__ else cause.__context__, _CONTEXT
    pieces = []
    for each, link_to_next in reversed(chain):
        pieces += _text_of_one(each, depth, _MESSAGE_CHARS // (len(chain) << 2 * depth))
        if link_to_next:
            pieces.append(f"\n{link_to_next}\n\n")
    return pieces


def _text_of_one(error: BaseException, depth: int, most_chars: int) -> list[str]:
    pieces = []
    if error.__traceback__ is not None:
        pieces = [
            _TRACEBACK,
            *_shown_frames(*_runs_of(error.__traceback__)),
        ]
    text = _clipped(_text_of(error), most_chars)
    if isinstance(error, SyntaxError) and error.lineno is not None:
        pieces.append(f'  File "{error.filename or "<string>"}", line {error.lineno}\n')
        if isinstance(error.text, str):
            pieces += _marked(error.text, error.offset)
        text = str(error.msg)
    name = _shown_name_of(type(error))
    pieces.append(f"{name}: {text}\n" if text else f"{name}\n")
    pieces += [f"{_clipped(note, most_chars)}\n" for note in _notes_of(error)]
    if lines := _last_lines_of_process(error):
        pieces += ["its output ends:\n", *(f"  | {line[:_LINE_CHARS]}\n" for line in lines)]
    members = _members_of(error) if depth < _DEEPEST_GROUP else ()
    most = _EQUAL_FRAMES if depth else _MOST_MEMBERS  # groups in groups multiply
    for number, member in enumerate(members[:most], start=1):
        pieces.append(f"  +---------------- {number} ----------------\n")
        inner = "".join(_text_of_chain(member, depth + 1)).splitlines()
        pieces += [f"  | {line}\n" for line in inner]
    if len(members) > most:
        pieces.append(f"  +- and {len(members) - most} more exceptions\n")
    if members:
        pieces.append(f"  +{'-' * _DASHES_OF_A_GROUP}\n")
    return pieces


def _members_of(error: BaseException) -> tuple[BaseException, ...]:
    """Return the exceptions in a group, which Python has from 3.11 on."""
    members = _attribute_of(error, "exceptions")
    if not isinstance(members, tuple) or _attribute_of(error, "subgroup") is None:
        return ()
    return tuple(each for each in members if isinstance(each, BaseException))


def _marked(line: str, offset: int | None) -> list[str]:
    shown = line.strip()[:_LINE_CHARS]
    pieces = [f"    {shown}\n"]
    if isinstance(offset, int) and offset > 0:
        column = offset - 1 - (len(line) - len(line.lstrip()))
        if 0 <= column <= len(shown):
            pieces.append(f"    {' ' * column}^\n")
    return pieces


def _runs_of(trace: TracebackType | None) -> _Runs:
    runs: list[tuple[str, int, str, int]] = []  # file, line, function, how often in a row
    left_out = 0
    while trace is not None:
        code = trace.tb_frame.f_code
        place = (code.co_filename, trace.tb_lineno, code.co_name)
        if runs and runs[-1][:3] == place:
            runs[-1] = (*place, runs[-1][3] + 1)
        else:
            runs.append((*place, 1))
        if len(runs) > _FIRST_FRAMES + _LAST_FRAMES:
            left_out += runs.pop(_FIRST_FRAMES)[3]
        trace = trace.tb_next
    return runs, left_out


def _shown_frames(runs: list[tuple[str, int, str, int]], left_out: int) -> list[str]:
    sources: dict[str, list[bytes]] = {}
    pieces = []
    for number, (file, line, function, count) in enumerate(runs):
        if left_out and number == _FIRST_FRAMES:
            pieces.append(f"  ... {left_out} frames are left out here ...\n")
        frame = f'  File "{file}", line {line}, in {function}\n{_source_line(file, line, sources)}'
        pieces += [frame] * min(count, _EQUAL_FRAMES)
        if count > _EQUAL_FRAMES:
            more = count - _EQUAL_FRAMES
            pieces.append(f"  [Previous line repeated {more} more time{'s' * (more > 1)}]\n")
    return pieces


def _source_line(file: str, number: int, sources: dict[str, list[bytes]]) -> str:
    if file not in sources:
        sources[file] = _source_of(file)
    if not 0 < number <= len(sources[file]):
        return ""
    line = sources[file][number - 1].decode("utf-8", "replace").strip()[:_LINE_CHARS]
    return f"    {line}\n" if line else ""


def _source_of(file: str) -> list[bytes]:
    try:
        status = os.stat(file)
        if status.st_mode & _KIND != _REGULAR:  # a pipe would be waited for
            return []
        with open(file, "rb") as source:
            return source.read(min(status.st_size, _MOST_SOURCE_BYTES)).splitlines()
    except (OSError, ValueError, MemoryError):  # ValueError: a null byte
        return []


def _first_line(text: str) -> str:
    return text.partition("\n")[0][:_LINE_CHARS]


def _clipped(text: str, limit: int, begin: float = 0.75) -> str:
    """Return a text of limited length: its beginning and its end."""
    if len(text) <= limit:
        return text
    first = int(limit * begin)
    left_out = len(text) - limit
    return (
        f"{text[:first]}\n... {left_out} characters are left out here ...\n"
        f"{text[len(text) - limit + first :]}"
    )


def _quoted(text: str) -> str:
    """Return a text as JSON; what can't be encoded is escaped when the record is."""
    return f'"{text.translate(_ESCAPES)}"'
