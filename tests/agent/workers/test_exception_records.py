"""What the hook writes of an exception, beside what Python prints of it."""

import json
import locale
import runpy
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from elrun.agent.failures.error_record import MAX_ERROR_FILE_BYTES, read_error_record
from elrun.agent.system.left_files import LeftFileReader
from elrun.agent.workers import environment

EVERYTHING = '\ud800 \x00\x1b"\\ é 🙂'
HOOK = Path(environment.__file__).with_name("hook")


@pytest.fixture(name="written", scope="module")
def _written(tmp_path_factory):
    """Write an exception, and read the record as the agent does."""
    words = runpy.run_path(str(HOOK / "last_words.py"))
    file = runpy.run_path(str(HOOK / "record_file.py"))

    def written(error, remark=""):
        path = tmp_path_factory.mktemp("record") / "error.json"
        file["write_record"](str(path), words["record_of"](error, remark))
        assert path.stat().st_size < MAX_ERROR_FILE_BYTES
        assert [path] == list(path.parent.iterdir())
        data, problem = read_error_record(str(path), LeftFileReader())
        assert "" == problem
        assert data == json.loads(path.read_bytes())
        return data["message"]

    return written


def raised(error, cause=None):
    """Return an exception that has been raised."""
    try:
        raise error from cause
    except type(error) as caught:
        return caught


def in_a_context():
    try:
        try:
            {}["a"]
        except KeyError:
            int("x")
    except ValueError as caught:
        return caught


def endless():
    return endless()


def too_deep():
    try:
        endless()
    except RecursionError as caught:
        return caught


def broken():
    try:
        compile("x = 1\nif x\n    y", "script.py", "exec")
    except SyntaxError as caught:
        return caught


def noted():
    error = raised(ValueError("no such shard"))
    error.__notes__ = ["the first note", "a second\nof two lines"]
    return error


def in_a_circle():
    first, second = raised(ValueError("first")), raised(KeyError("second"))
    first.__cause__, second.__cause__ = second, first
    return first


def printed(error):
    """Return the lines of Python's own traceback, without those that mark places in a line."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return [line for line in lines if set(line) - set(" ^~") or not line.strip()]


@pytest.mark.parametrize(
    "make",
    [
        lambda: raised(ValueError("no such shard")),
        lambda: raised(ValueError()),
        lambda: raised(ValueError("two\nlines")),
        lambda: raised(RuntimeError("asked for a"), raised(KeyError("a"))),
        lambda: raised(RuntimeError("asked for a"), raised(KeyError("a"), raised(OSError(2)))),
        lambda: raised(json.JSONDecodeError("no JSON", "[", 1)),
        in_a_context,
        too_deep,
        broken,
        pytest.param(
            noted, marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="notes came then")
        ),
    ],
)
def test_a_traceback_is_python_s(written, make):
    """Files, lines, functions, source, causes and notes, in the same order and words."""
    error = make()

    stack = written(error)["extraInfo"]["py_callstack"]

    assert printed(error) == [line for line in stack.splitlines() if set(line) != set(" ^")]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: raised(ValueError("a\nb")), "ValueError: a\nb"),
        (lambda: raised(ValueError()), "ValueError"),
        (lambda: raised(ValueError(EVERYTHING)), f"ValueError: {EVERYTHING}"),
        (broken, "SyntaxError: expected ':' (script.py, line 2)"),
        (lambda: raised(locale.Error("x")), "locale.Error: x"),
    ],
)
def test_the_message_is_the_type_and_the_text(written, make, message):
    """Whatever characters it has."""
    assert message == written(make())["message"]


def test_a_remark_stands_in_the_first_line(written):
    """The lines that follow belong to the text."""
    message = written(raised(ValueError("a\nb")), "in thread 'loader-1'")["message"]

    assert "ValueError: a (in thread 'loader-1')\nb" == message


def of_process(**output):
    return raised(subprocess.CalledProcessError(1, ["convert"], **output))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (noted, "ValueError: no such shard (note: the first note; note: a second)"),
        (
            lambda: of_process(stderr=b"reading\nno such shard: \xff7\n\n"),
            (
                "subprocess.CalledProcessError: Command '['convert']' returned non-zero exit "
                "status 1. (its output ends: no such shard: \ufffd7)"
            ),
        ),
        (
            lambda: of_process(output="no such shard", stderr=""),
            (
                "subprocess.CalledProcessError: Command '['convert']' returned non-zero exit "
                "status 1. (its output ends: no such shard)"
            ),
        ),
        (
            of_process,
            "subprocess.CalledProcessError: Command '['convert']' returned non-zero exit status 1.",
        ),
    ],
)
def test_what_an_exception_carries_besides_its_text_is_told_in_the_first_line(
    written, make, message
):
    """Its notes, and the end of what a process printed that ``subprocess`` has captured."""
    assert message == written(make())["message"]


def test_the_end_of_what_a_process_printed_is_kept(written):
    """Python itself prints nothing of it."""
    stack = written(of_process(stderr="".join(f"line {n}\n" for n in range(100))))["extraInfo"]

    lines = stack["py_callstack"].partition("its output ends:\n")[2].splitlines()
    assert [f"  | line {n}" for n in range(80, 100)] == lines


class WrappedError(Exception):
    def __getattr__(self, name):
        raise KeyboardInterrupt


def test_attributes_that_raise_are_passed_over(written):
    """They are the user's code."""
    assert f"{__name__}.WrappedError: x" == written(raised(WrappedError("x")))["message"]


def test_the_type_is_told_with_its_module(written):
    """For those who decide by it."""
    error = raised(json.JSONDecodeError("no JSON", "[", 1))

    assert "json.decoder.JSONDecodeError" == written(error)["extraInfo"]["type"]


class OddError(Exception):
    def __str__(self):
        raise KeyboardInterrupt


def test_a_text_that_raises_is_replaced(written):
    """As Python does it."""
    assert (
        f"{__name__}.OddError: <exception str() failed>" == written(raised(OddError()))["message"]
    )


@pytest.mark.parametrize("text", ["x" * (1 << 20), "\x00" * (1 << 20), "é" * (1 << 20)])
def test_a_long_text_is_told_by_its_beginning_and_its_end(written, text):
    """Within what the agent reads."""
    message = written(raised(ValueError(f"begin {text} end")))["message"]

    assert (True, True) == (message.startswith("ValueError: begin "), message.endswith(" end"))
    assert "characters are left out here" in message


def test_causes_in_a_circle_are_told_once(written):
    """Python does not go round either."""
    stack = written(in_a_circle())["extraInfo"]["py_callstack"]

    assert (1, 1) == (stack.count("ValueError: first"), stack.count("KeyError: 'second'"))


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python has groups from 3.11 on")
def test_a_group_is_told_with_its_members(written):
    """The first of them in the message, with the beginning of each."""
    inner = ExceptionGroup("inner", [raised(OSError("deep"))])  # noqa: F821  Python 3.11
    error = raised(ExceptionGroup("outer", [raised(ValueError("one\ntwo")), inner]))  # noqa: F821

    message = written(error)

    assert message["message"] == (
        "ExceptionGroup: outer (2 sub-exceptions): ValueError: one; "
        "ExceptionGroup: inner (1 sub-exception): OSError: deep"
    )
    assert message["extraInfo"]["py_callstack"].endswith(
        "  |   | OSError: deep\n"
        "  |   +------------------------------------\n"
        "  +------------------------------------\n"
    )


def test_a_file_that_is_there_before_stays(tmp_path, written):
    """The record is written beside it and moved there: nobody reads half of one."""
    write = runpy.run_path(str(HOOK / "record_file.py"))["write_record"]
    (tmp_path / "none").mkdir()

    with pytest.raises(OSError, match="Is a directory"):
        write(str(tmp_path / "none"), "{}")

    assert ["none"] == [path.name for path in tmp_path.iterdir()]


def test_the_types_that_an_exception_is_derived_from_are_written(written):
    """A rule about restarts may name any of them."""
    info = written(FileNotFoundError(2, "no"))["extraInfo"]

    names = ["FileNotFoundError", "OSError", "Exception", "BaseException", "object"]
    assert [f"builtins.{each}" for each in names] == [info["type"], *info["bases"]]


def test_a_long_text_of_an_exit_stands_once_in_its_record():
    """Below the exception that was handled then, as Python prints it."""
    words, text = runpy.run_path(str(HOOK / "last_words.py")), "x" * 40_000

    note = words["note_of_exit"](text, raised(ValueError("handled")), None, None)

    info = json.loads(words["record_of_note"](note))["message"]["extraInfo"]
    stack = info["py_callstack"]
    assert 1 == stack.count(text)
    assert stack.startswith("Traceback (most recent call last):")
    assert stack.endswith(
        "ValueError: handled\n\nDuring handling of the above exception, another exception "
        f"occurred:\n\nSystemExit: {text}\n"
    )
