"""Finds what a worker said last in the end of its standard error.

The text is anybody's: a Python traceback, a stack of ``faulthandler``, an exception of C++, a
shell's message, and whatever was printed after it. Only patterns of the programs that write these
are looked for; what fits none is shown as it is. Nothing is decided by the text but what a person
reads first.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Iterable

from ...rendezvous.named_tuple import NamedTuple
from .asides import CHAINED, EXCEPTION, without_asides
from .traceback_place import place_among

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
else:
    from .late_re import re

MAX_LINES = 20
MAX_TEXT_LINES = 200
_MOST_WORDS = 1_000
_MOST_IN_A_LINE = 4_000
_LINES_AFTER = 20

# Plain texts: `re` compiles each when it is first used, and most failures need none.
_TRACEBACK = r"(?P<prefix>.{0,80}?)Traceback \(most recent call last\):\s*"
_GROUP = "  + Exception Group "
_CRASH = r"Fatal Python error: (?P<what>.+)"
_TIME_OUT = r"Timeout \([\d:.]+\)!"
_STACK_LINE = r"\s*$|(?:Current t|T)hread 0x|  File \"|  \.\.\."
_THREAD = r"(?:Current t|T)hread 0x"
_CRASH_FRAME = r'  File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<name>.+)'
_CRASH_NOISE = ("Extension modules:", "Current thread's C stack trace")
_TERMINATE = r".{0,80}?terminate called (?:after throwing|without|recursively)\b.*"
_ABORT = (
    r"(?:free|malloc|calloc|realloc|munmap_chunk|malloc_consolidate)\(\): .+|double free or .+"
    r"|corrupted (?:size|double|unsorted).+|\*\*\* (?!Check failure).+ \*\*\*.*"
    r"|F\d{4} .+\] .+|.{0,60}: F .+\] .+|.{0,300}\bCheck failed: .+"  # of glog, and of absl
    r"|.{0,300}: Assertion [`'\"].+ failed\.?|thread '[^']{1,200}' .{0,40}panicked at .+"
    r"|(?:LLVM|libc\+\+abi).*: .+"
)
_MORE = "..."
"""Ends stacks that were cut: ``faulthandler`` writes those of 100 threads, the main one last."""

_WITHOUT_PYTHON = "a thread that runs no Python code"
_THROWN = r"instance of '(?P<type>[^']+)'"
_WHAT = r"\s*what\(\):\s*(?P<what>.*)"
_NOISE = (
    r"\s*$|.{0,40}\[W\d|W\d{4} |.{0,200}Warning: |\s*warnings\.warn\(|.{0,40}\bINFO\b"
    r"|Aborted(?: \(core dumped\))?$|Extension modules: "
)
_TELLING = (
    r"(?i)\b(?:fatal|critical|panic(?:ked)?|abort(?:ed|ing)?|cannot|can't|denied)\b"
    r"|exception\b|\b(?:unable|could ?n[o']t)\b|error\b|\bfailed\b|\bAssertion\b"
    r"|No such file|not found|: line \d+: |\bat \S{1,200} line \d+\b|unbound variable|corrupt"
    r"|invalid pointer|double free|out of memory|undefined symbol"
)
_TELLING_LESS = (
    r"(?i)\b(?:invalid|illegal|unexpected|unknown|unsupported|missing|required|refused|killed|must"
    r"|no such|timed out|mismatch|overflow|not (?:supported|permitted|allowed|installed|defined|a)"
    r"|does ?n[o']t|violat\w+|died|dumped|stack smashing)\b"
)
_ADVICE = (  # and frames of a stack
    r"\s+(?:at |@ |\[\d+\] |#\d+ |from )|\s*(?:note|hint|help|usage|try):? |goroutine \d"
    r"|[\w./]+\.\w+\((?:0x[\w, .?]*|\.\.\.)?\)$"
    r"|Set the environment variable|For debugging consider|Compile with |exit status \d+$"
)
_PROGRESS = r"\d%\|"
_OF_ANOTHER_PROCESS = (
    r"returned non-zero exit status|\bdied with <?(?:Signals|unknown)|exited unexpectedly"
    r"|terminated abruptly|\bterminated with (?:exit code|signal)|is killed by signal"
    r"|\bChildFailedError\b"
    r"|\bprocess(?:es)? .{0,80}\b(?:exited|died|was killed|terminated|ended|crashed)\b"
)
_SIGNALS_OF_CRASHES = {
    "Segmentation fault": signal.SIGSEGV,
    "Bus error": signal.SIGBUS,
    "Floating point exception": signal.SIGFPE,  # 3.10 to 3.14 have both
    "Floating-point exception": signal.SIGFPE,
    "Illegal instruction": signal.SIGILL,
    "Aborted": signal.SIGABRT,
}
_SIGNALS_WITHOUT_TITLE = (signal.SIGALRM, signal.SIGXCPU)
"""Signals at which our hook lets ``faulthandler`` write stacks that it has no title for."""


class Speech(enum.Enum):
    """What kind of last words was found."""

    NOTHING = "nothing"
    TRACEBACK = "a Python traceback"
    CRASH = "a stack at a fatal signal"
    TERMINATE = "an exception of C++"
    LINES = "lines of unknown meaning"


class LastWords(NamedTuple):
    """What a worker said last.

    Args:
        words: What went wrong, in one line; empty where no line says so for certain.
        text: The traceback, the stack or the last lines.
        speech: What kind of text that is.
    """

    words: str = ""
    text: str = ""
    speech: Speech = Speech.NOTHING


def last_words_in(text: str, *, is_whole: bool = True) -> LastWords:
    """Return what the end of a worker's standard error says of the worker's end.

    Args:
        text: The end of what was printed.
        is_whole: Whether that is all; otherwise its first line is cut off.
    """
    if not text.strip():  # the commonest, and no pattern has to be compiled for it
        return LastWords()
    lines = [_shown(line) for line in text.split("\n")]
    if not is_whole:
        lines = lines[1:]
    lines, aside = without_asides(lines)
    candidates = [_last_traceback(lines), _last_crash(lines), _last_terminate(lines)]
    at, found = max(candidates, key=lambda each: each[0])
    if at < 0:
        found = _last_lines(lines)
        if not aside.words or _telling_line(found.text.split("\n")):
            return found
        return LastWords(aside.words[:_MOST_WORDS], aside.text, Speech.LINES)
    crash_at, terminate = candidates[1][0], candidates[2]
    is_abort = at == crash_at and found.words.startswith("Aborted")
    if is_abort and terminate[0] >= 0:  # what was thrown says more than where the main thread was
        return terminate[1]
    return found


def first_paragraph(lines: Iterable[str]) -> str:
    """Return the first lines of a text up to an empty one or a rule, as one line.

    Args:
        lines: The text's lines, of which the first ones may be empty or rules.
    """
    found: list[str] = []
    for line in map(str.strip, lines):
        is_rule = not any(map(str.isalnum, line))
        if is_rule and found:
            break
        found += [] if is_rule else [line]
    return " ".join(found)[:_MOST_WORDS]


def tells_of_another_process(words: str) -> bool:
    """Return whether an exception only says how another process ended.

    Args:
        words: Its type and text, and those of its causes.
    """
    return re.search(_OF_ANOTHER_PROCESS, words) is not None


def words_before_traceback(text: str, words: str, *, is_whole: bool = True) -> str:
    """Return the line before the last traceback that says what went wrong, if any does.

    Args:
        text: The end of what a worker and its children printed.
        words: What the worker's exception says: that is not said twice.
        is_whole: As in ``last_words_in``.
    """
    lines = text.split("\n")
    at = next((at for at in reversed(range(len(lines))) if _begins_traceback(lines[at])), None)
    start = len(lines) if at is None else _start_of_chain(lines, at, "")
    found = last_words_in("\n".join([*lines[:start], ""]), is_whole=is_whole).words
    return "" if found in words else found


def _begins_traceback(line: str) -> bool:
    return re.fullmatch(_TRACEBACK, _shown(line)) is not None


def abort_reason_in(text: str) -> str:
    """Return what a program said before it called ``abort``: of libc, ``assert``, Rust; or "".

    Args:
        text: The end of what it printed.
    """
    lines = (_shown(line).strip() for line in reversed(text.split("\n")))
    return next((line[:_MOST_WORDS] for line in lines if re.fullmatch(_ABORT, line)), "")


def place_of_abort(stack: str) -> str:
    """Return where the thread was that called ``abort``; empty: that is not known.

    Args:
        stack: What ``faulthandler`` wrote.
    """
    return _innermost(stack.splitlines())


def crash_in(text: str, exitcode: int) -> LastWords:
    """Return the last stack that ``faulthandler`` wrote, if it is of the signal that killed.

    Args:
        text: The end of the file.
        exitcode: -n where signal n killed the worker.
    """
    if -exitcode in _SIGNALS_WITHOUT_TITLE:
        return _stack_without_title(text)
    at, found = _last_crash(text.split("\n"))
    what = "" if at < 0 else found.words.partition(" in ")[0]
    return found if _SIGNALS_OF_CRASHES.get(what) == -exitcode else LastWords()


def _stack_without_title(text: str) -> LastWords:
    stack = _last_dump(text.strip("\n").split("\n"))
    place = _innermost(stack)
    words = f"it was in {place}"
    return LastWords(words, "\n".join(stack), Speech.CRASH) if place else LastWords()


def _last_dump(lines: list[str]) -> list[str]:
    """Return what was written last: forked children that died before have left theirs above.

    Only within a dump an empty line stands between two threads.
    """
    threads = [at for at, line in enumerate(lines) if re.match(_THREAD, line)]
    return lines[max((at for at in threads if not at or lines[at - 1]), default=0) :]


def _shown(line: str) -> str:
    """Return what a terminal shows of a line that a progress bar has begun anew many times."""
    line = line.rstrip("\r")
    return line[line.rfind("\r") + 1 :][:_MOST_IN_A_LINE]


def _last_traceback(lines: list[str]) -> tuple[int, LastWords]:
    """Return where the last traceback's exception stands, and the traceback; -1: there is none."""
    for start in range(len(lines) - 1, -1, -1):
        match = re.fullmatch(_TRACEBACK, lines[start])
        if match is None:
            continue
        prefix = match["prefix"]
        if prefix.endswith(_GROUP):
            prefix = f"{prefix.removesuffix(_GROUP)}  | "
        for at in range(start + 1, len(lines)):
            if not lines[at].startswith(prefix):
                break
            line = lines[at].removeprefix(prefix)
            if line[:1] in (" ", ""):
                continue
            if re.fullmatch(EXCEPTION, line):
                return at, _traceback(lines, start, at, prefix)
            break
    return -1, LastWords()


def _traceback(lines: list[str], start: int, at: int, prefix: str) -> LastWords:
    words = lines[at].removeprefix(prefix).rstrip()
    if words.endswith(":") and at + 1 < len(lines):  # the text begins with an empty line
        more = (line.removeprefix(prefix) for line in lines[at + 1 : at + _LINES_AFTER])
        words = f"{words} {first_paragraph(more)}".rstrip()
    first = _start_of_chain(lines, start, match_prefix=lines[start].partition("Traceback")[0])
    return LastWords(words[:_MOST_WORDS], _text(lines, first, at), Speech.TRACEBACK)


def _start_of_chain(lines: list[str], start: int, match_prefix: str) -> int:
    """Return where the traceback of the first cause begins."""
    while True:
        above = start - 1
        while above >= 0 and not lines[above].removeprefix(match_prefix.rstrip()).strip():
            above -= 1
        if above < 0 or not lines[above].endswith(CHAINED):
            return start
        earlier = above - 1
        while earlier >= 0 and not re.fullmatch(_TRACEBACK, lines[earlier]):
            earlier -= 1
        if earlier < 0:
            return start
        start = earlier


def _last_crash(lines: list[str]) -> tuple[int, LastWords]:
    for at in range(len(lines) - 1, -1, -1):
        if match := re.fullmatch(_CRASH, lines[at]) or _time_out(lines, at):
            stack = [line for line in lines[at + 1 :] if not line.startswith(_CRASH_NOISE)]
            is_time_out = match.re.pattern != _CRASH
            frame = _innermost(stack, is_time_out=is_time_out)
            words = f"{match['what']}{f' in {frame}' if frame else ''}"
            if len(stack) > MAX_TEXT_LINES:
                stack = [*stack[: MAX_TEXT_LINES - 1], _MORE]
            text = "\n".join(stack).strip("\n")
            return at, LastWords(words[:_MOST_WORDS], text, Speech.CRASH)
    return -1, LastWords()


def _time_out(lines: list[str], at: int) -> re.Match[str] | None:
    """Return the title of stacks that ``faulthandler`` wrote after a time, if nothing follows them.

    ``dump_traceback_later`` may have ended the process with them; otherwise they say nothing.
    """
    match = re.fullmatch(f"(?P<what>{_TIME_OUT})", lines[at])
    is_end = match and all(re.match(_STACK_LINE, line) for line in lines[at + 1 :])
    return match if is_end else None


def _innermost(stack: list[str], *, is_time_out: bool = False) -> str:
    """Return where the thread was that crashed, and the line of the user's that led there.

    A thread of a library that runs no Python code is in none of the stacks, or has no frame. One
    may also be missing as there are too many. After a time-out no thread is the current one.
    """
    threads = [at for at, line in enumerate(stack) if re.match(_THREAD, line)]
    current = next((at for at in threads if stack[at].startswith("Current")), None)
    if current is None and threads and not is_time_out:
        return "" if _MORE in stack else _beside(stack[threads[-1] :])
    frames: list[re.Match[str]] = []
    start = threads[0] if current is None and threads else current
    for line in stack[0 if start is None else start + 1 :]:
        match = re.fullmatch(_CRASH_FRAME, line)
        if match is not None:
            frames.append(match)
        elif frames or line.startswith("Thread 0x"):  # another thread
            break
    return place_among(frames) or (_beside(stack[threads[-1] :]) if threads else "")


def _beside(main: list[str]) -> str:
    """Return that a thread without Python code crashed, and where the main thread was meanwhile.

    Args:
        main: The last of the stacks: the main thread's, unless stacks were cut.
    """
    frames = filter(None, (re.fullmatch(_CRASH_FRAME, line) for line in main))
    place = "" if _MORE in main else place_among(frames)
    return f"{_WITHOUT_PYTHON}, while the main thread was in {place}" if place else _WITHOUT_PYTHON


def _last_terminate(lines: list[str]) -> tuple[int, LastWords]:
    for at in range(len(lines) - 1, -1, -1):
        if not re.fullmatch(_TERMINATE, lines[at]):
            continue
        thrown = re.search(_THROWN, lines[at])
        what = next(
            filter(None, (re.fullmatch(_WHAT, line) for line in lines[at + 1 : at + 4])), None
        )
        name = thrown["type"] if thrown else lines[at].strip()
        if what and what["what"]:
            words = f"{name}: {what['what']}"
        else:  # `throw 42` has a type, and nothing that could be shown
            words = f"a C++ exception of type {name}" if thrown else name
        return at, LastWords(words[:_MOST_WORDS], _text(lines, at, at), Speech.TERMINATE)
    return -1, LastWords()


def _last_lines(lines: list[str]) -> LastWords:
    kept = [line for line in lines if not re.match(_NOISE, line)][-MAX_LINES:]
    if not kept:
        return LastWords()
    words = _telling_line(kept)
    is_one_sentence = len(kept) == 1 and not lines[-1] and not re.search(_PROGRESS, kept[0])
    if not words and is_one_sentence:
        words = kept[0].strip()
    return LastWords(words[:_MOST_WORDS], "\n".join(kept), Speech.LINES)


def _telling_line(lines: list[str]) -> str:
    """Return the last line that tells of an error, else the last that may; or ""."""
    words = [at for at, line in enumerate(lines) if not re.match(f"(?i){_ADVICE}", line)]
    for pattern in (_TELLING, _TELLING_LESS):
        for at in reversed(words):
            if re.search(pattern, lines[at]):
                line = lines[at].strip()
                is_begun = line.endswith(":") and at + 1 < len(lines)
                return f"{line} {lines[at + 1].strip()}" if is_begun else line
    return ""


def _text(lines: list[str], first: int, at: int) -> str:
    """Return a text from its first line to some lines after what it says last."""
    whole = lines[first : at + 1 + _LINES_AFTER]
    return "\n".join(whole[-MAX_TEXT_LINES:]).strip("\n")
