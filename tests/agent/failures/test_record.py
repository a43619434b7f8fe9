"""The file in which a process leaves its exception."""

import functools
import json
import sys

import pytest
from elrun.agent.failures import record as error_files
from elrun.agent.failures.failure import ERROR_FILE_VARIABLE, ChildFailedError, ProcessFailure
from elrun.agent.failures.record import ErrorHandler, get_error_handler

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

    said = capsys.readouterr().err.splitlines()
    assert "/nowhere/error.json: the error file can't be written: No such file or directory" in said


def test_a_program_without_standard_error_is_recorded_too(error_file, monkeypatch):
    """``faulthandler`` refuses then; the program runs, and its exception is written."""
    monkeypatch.setattr("sys.stderr", None)

    with pytest.raises(ValueError, match="boom"):
        record(raise_value_error)()

    assert error_file.exists()


class Diary(ErrorHandler):
    """Keeps what it is told."""

    def __init__(self):
        self.entries = []

    def initialize(self):
        self.entries.append(("initialize", self._fn_name))

    def record_success(self):
        self.entries.append(("success", self._fn_name))

    def record_exception(self, error):
        self.entries.append((repr(error), self._fn_name))


class OldHandler:
    """What torch's handlers had to have before 2.15."""

    def __init__(self):
        self.entries = []

    def initialize(self):
        self.entries.append("initialize")

    def record_exception(self, error):
        self.entries.append(repr(error))


def answer():
    return 42


def test_a_handler_learns_which_function_runs_and_that_it_returned():
    """The name comes first, success when it is certain."""
    diary = Diary()

    assert 42 == record(answer, diary)()
    assert [("initialize", "answer"), ("success", "answer")] == diary.entries


def test_a_handler_learns_which_function_raised():
    """And nothing of success."""
    diary = Diary()

    with pytest.raises(ValueError, match="boom"):
        record(raise_value_error, diary)()

    expected = [("initialize", "raise_value_error"), ("ValueError('boom')", "raise_value_error")]
    assert expected == diary.entries


def test_leaving_by_exit_is_recorded_neither_as_success_nor_as_failure():
    """As torch has it: the function has not returned."""
    diary = Diary()

    assert record(functools.partial(sys.exit, 0), diary)() is None
    with pytest.raises(SystemExit, match="3"):
        record(functools.partial(sys.exit, 3), diary)()

    assert [("initialize", None), ("initialize", None)] == diary.entries


def test_what_a_handler_raises_at_success_is_not_recorded_as_the_function_s_failure():
    """It is raised all the same."""

    class Broken(Diary):
        def record_success(self):
            raise OSError("the telemetry is away")

    broken = Broken()

    with pytest.raises(OSError, match="telemetry"):
        record(answer, broken)()
    assert [("initialize", "answer")] == broken.entries


def test_a_handler_that_knows_of_no_success_can_be_used_still():
    """Programs have handlers of their own that were written before there was such a thing."""
    handler = OldHandler()

    assert 42 == record(answer, handler)()
    with pytest.raises(ValueError, match="boom"):
        record(raise_value_error, handler)()
    assert ["initialize", "initialize", "ValueError('boom')"] == handler.entries


@pytest.mark.parametrize(
    ("exitcode", "expected"), [(-11, True), (1, False)], ids=["by-signal", "by-itself"]
)
def test_a_handler_may_know_more_of_a_killed_worker(monkeypatch, exitcode, expected):
    """A driver may have said why; of one that ended by itself there is nothing to add."""

    class Driver(ErrorHandler):
        def maybe_enrich_signal_failure_message(self, message, error_file):
            return f"{message} (GPU 3 fell off the bus; see {error_file})"

    monkeypatch.setattr(error_files, "get_error_handler", Driver)
    failure = ProcessFailure(0, 1, exitcode, "")

    text = str(ChildFailedError("job", {0: failure}))

    assert failure.summary in text
    assert expected == ("(GPU 3 fell off the bus; see <N/A>)" in text)


def test_a_handler_that_fails_at_a_killed_worker_hides_nothing(monkeypatch, caplog):
    """What happened to it is told as if there were no handler."""

    class Broken(ErrorHandler):
        def maybe_enrich_signal_failure_message(self, message, error_file):
            raise RuntimeError(message, error_file)

    monkeypatch.setattr(error_files, "get_error_handler", Broken)
    failure = ProcessFailure(0, 1, -11, "")

    assert failure.summary in str(ChildFailedError("job", {0: failure}))
    assert "could not be added to" in caplog.text
