"""The file in which a process leaves its exception."""

import json
import sys

import pytest
from elrun.agent.error_file import get_error_handler
from elrun.agent.failure import ERROR_FILE_VARIABLE, ChildFailedError, ProcessFailure

from elrun import record


@pytest.fixture(name="error_file")
def _error_file(tmp_path, monkeypatch):
    path = tmp_path / "error.json"
    monkeypatch.setenv(ERROR_FILE_VARIABLE, str(path))
    return path


def raise_value_error():
    raise ValueError("boom")


def test_an_exception_is_recorded_and_raised(error_file):
    """The agent can read what happened; the program still ends by its exception."""
    with pytest.raises(ValueError, match="boom"):
        record(raise_value_error)()

    message = json.loads(error_file.read_text())["message"]
    assert "ValueError: boom" == message["message"]
    assert "in raise_value_error" in message["extraInfo"]["py_callstack"]
    assert int(message["extraInfo"]["timestamp"]) > 0


def test_a_result_passes_through(error_file):
    """A decorated function is called as it is."""
    assert [1, {"a": 2}] == record(lambda *args, **kwargs: [*args, kwargs])(1, a=2)
    assert not error_file.exists()


@pytest.mark.parametrize("code", [0, None])
def test_a_clean_exit_is_no_error(code):
    """``sys.exit(0)`` ends the function, so that the worker ends with 0."""
    assert record(lambda: sys.exit(code))() is None


def test_another_exit_code_passes_through():
    """``sys.exit(3)`` stays 3."""
    with pytest.raises(SystemExit, match="3"):
        record(lambda: sys.exit(3))()


def test_a_child_s_error_file_becomes_the_launcher_s_own(error_file, tmp_path):
    """A scheduler that gave elrun an error file finds the worker's exception in it."""
    child = tmp_path / "child.json"
    child.write_text('{"message": {"message": "ValueError: deep"}}')

    def launch():
        raise ChildFailedError("job", {0: ProcessFailure(0, 1, 7, str(child))})

    with pytest.raises(ChildFailedError):
        record(launch)()

    assert {"message": "ValueError: deep", "errorCode": 7} == json.loads(error_file.read_text())[
        "message"
    ]


def test_no_file_is_written_where_none_is_asked_for(monkeypatch, tmp_path):
    """Without the variable the exception is only raised."""
    monkeypatch.delenv(ERROR_FILE_VARIABLE, raising=False)

    get_error_handler().record_exception(ValueError("boom"))

    assert [] == list(tmp_path.iterdir())


def test_a_directory_that_is_gone_does_not_hide_the_exception(monkeypatch, capsys):
    """What can't be written is one line on standard error."""
    monkeypatch.setenv(ERROR_FILE_VARIABLE, "/nowhere/error.json")

    get_error_handler().record_exception(ValueError("boom"))

    assert "/nowhere/error.json: the error file can't be written" in capsys.readouterr().err


def test_a_program_without_standard_error_is_recorded_too(error_file, monkeypatch):
    """``faulthandler`` refuses then; the program runs, and its exception is written."""
    monkeypatch.setattr("sys.stderr", None)

    with pytest.raises(ValueError, match="boom"):
        record(raise_value_error)()

    assert error_file.exists()
