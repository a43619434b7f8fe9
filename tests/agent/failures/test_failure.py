"""A worker's failure as a value."""

import json

import pytest
from elrun.agent.failures.failure import (
    ChildFailedError,
    ProcessFailure,
    shell_exit_code,
    signal_name,
)
from elrun.agent.failures.report import JobReport, RankOutcome, RankState, RootCause


def error_file(tmp_path, content, name="error.json"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def torch_record(message="ValueError: boom", stack="Traceback …", timestamp="100"):
    extra = {"py_callstack": stack, "timestamp": timestamp}
    return {"message": {"message": message, "extraInfo": extra}}


@pytest.mark.parametrize(
    ("exitcode", "name", "code"),
    [(-9, "SIGKILL", 137), (-11, "SIGSEGV", 139), (3, "<N/A>", 3), (-35, "SIGRTMIN+1", 163)],
)
def test_exit_codes_have_the_names_and_numbers_that_shells_use(exitcode, name, code):
    """A negative exit code is a signal; a shell says 128 + its number."""
    assert (name, code) == (signal_name(exitcode), shell_exit_code(exitcode))


def test_a_failure_tells_what_the_error_file_says(tmp_path):
    """Message, traceback and time come from what torch's ``record`` wrote."""
    failure = ProcessFailure(0, 42, 1, error_file(tmp_path, torch_record()))

    assert ("ValueError: boom", "Traceback …", 100) == (
        failure.summary,
        failure.traceback,
        failure.timestamp,
    )


def test_a_signal_explains_a_failure_without_an_error_file():
    """The message names the signal and the process."""
    failure = ProcessFailure(0, 42, -9, "")

    assert "Signal 9 (SIGKILL) received by PID 42" == failure.summary
    assert "<N/A>" == failure.error_file


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"other": 1}', '"text"', "[" * 100_000, "{" + " " * (1 << 20)],
)
def test_a_damaged_error_file_counts_as_none(tmp_path, content):
    """What a dying worker left half-written never breaks the agent."""
    path = error_file(tmp_path, content)

    failure = ProcessFailure(0, 1, 1, path)

    assert ("<N/A>", 1) == (failure.error_file, failure.exitcode)
    assert failure.summary.startswith("exited with code 1")


@pytest.mark.parametrize("timestamp", ["soon", None, [], "1e999", -1, 1790000000000])
def test_a_foreign_timestamp_is_replaced_by_now(tmp_path, timestamp):
    """A writer that gives no time in seconds leaves it to the reader."""
    failure = ProcessFailure(0, 1, 1, error_file(tmp_path, torch_record(timestamp=timestamp)))

    assert failure.timestamp > 1_000_000_000
    assert failure.timestamp_isoformat().startswith("20")


def test_failures_share_nothing(tmp_path):
    """What one failure's data says never shows in another's (torchrun's does)."""
    first = ProcessFailure(0, 1, 1, "")
    first.error_file_data["trace"] = "mine"

    assert "trace" not in ProcessFailure(1, 2, -9, "").error_file_data


def test_the_earliest_failure_is_the_root_cause(tmp_path):
    """Without a report, time decides."""
    failures = {
        rank: ProcessFailure(
            rank, rank, 1, error_file(tmp_path, torch_record(timestamp=time), f"{rank}.json")
        )
        for rank, time in [(0, "200"), (1, "100")]
    }

    error = ChildFailedError("train.py", failures)

    assert (1, failures[1]) == error.get_first_failure()
    assert str(error).startswith("train.py failed: rank 1 (local rank 1, pid 1) exit code 1 at ")


def test_a_job_without_failures_did_not_fail():
    """The error can't be made from nothing."""
    with pytest.raises(ValueError, match="at least one"):
        ChildFailedError("train.py", {})


def test_the_report_names_the_root_cause():
    """Where a report exists, its root cause stands, whatever the times say."""
    failures = {0: ProcessFailure(0, 1, 1, ""), 1: ProcessFailure(1, 2, -9, "")}
    root = RootCause(1, 1, "node1", 2, -9, 0, "killed")

    error = ChildFailedError("job", failures, JobReport("job", root, ()))

    assert 1 == error.get_first_failure()[0]


def test_outcomes_and_root_causes_survive_the_wire():
    """JSON and back gives the same value."""
    outcome = RankOutcome(1, 0, "node2", 77, -9, RankState.STOPPED, 0.25, "/log")
    root = RootCause(1, 0, "node2", 77, -9, 100, "killed", "Traceback", "/log")

    assert outcome == RankOutcome.from_json(json.loads(json.dumps(outcome.to_json())))
    assert root == RootCause.from_json(json.loads(json.dumps(root.to_json())))


@pytest.mark.parametrize("data", [{}, {"global_rank": "x"}, {"state": "odd"}])
def test_foreign_outcomes_are_refused(data):
    """What isn't an outcome raises ValueError and nothing else."""
    with pytest.raises(ValueError, match="not the outcome"):
        RankOutcome.from_json(data)
    with pytest.raises(ValueError, match="not a root cause"):
        RootCause.from_json(data)
