"""What a worker's hooks write: the record of its last exception, and what it has imported."""

import builtins
import importlib.util
import json
import os
from pathlib import Path

import elrun.agent.workers
from elrun.agent.failures.failure import ProcessFailure
from elrun.agent.preload.lessons import Lessons
from elrun.agent.system.left_files import LeftFile

_HOOK = Path(elrun.agent.workers.__file__).parent / "hook/last_words.py"
_SPEC = importlib.util.spec_from_file_location("elrun_fuzzed_last_words", _HOOK)
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)

_GROUP = getattr(builtins, "ExceptionGroup", None)  # from Python 3.11 on


class _Reader:
    def __init__(self, text):
        self._text = text

    def read_beginning(self, path, limit):
        return LeftFile(self._text)


class Odd(Exception):
    """Has whatever attributes a user's exception has."""


def attempt(data: bytes) -> None:
    """The record is JSON, and says what the exception says; what is learnt is bounded."""
    text, *rest = data.decode("utf-8", "surrogateescape").split("\n\n")
    error = _raised(Odd(text), rest)
    record = _MODULE.record_of(error).encode("utf-8", "backslashreplace")
    message = json.loads(record)["message"]
    assert message["message"]
    assert isinstance(message["extraInfo"]["py_callstack"], str)
    failure = ProcessFailure.read_by(_Reader(record), 0, 7, 1, "/a")
    assert failure.summary
    assert failure.exception.endswith(type(error).__qualname__)
    _learn(data)


def _raised(error, rest):
    """Make what a user's code may make of an exception, of one text after the other."""
    for number, text in enumerate(rest[: 6 if _GROUP else 5]):
        if number == 0:
            error.__notes__ = [text]
        elif number == 1:
            error.__cause__ = ValueError(text)
        elif number == 2:
            error.__notes__ = [text, 5, None] if text else text
        elif number == 3:
            error.cmd, error.stderr = "a", text.encode("utf-8", "surrogateescape")
        elif number == 4:
            error.__context__ = SyntaxError(text, (text, 3, len(text), text))
        else:
            error = _GROUP(text, [error, ValueError(text)])
    try:
        raise error
    except Exception as caught:
        return caught


def _learn(data):
    lessons = Lessons(1)
    try:
        os.write(lessons._write_fd, data[:4096]) if data else None
        for _ in range(3):
            lessons.take([1, 7])
    finally:
        lessons.close()
