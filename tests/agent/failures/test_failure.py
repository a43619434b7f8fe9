"""A worker's failure as a value."""

import json
import signal

import pytest
from elrun.agent.failures.failure import (
    ChildFailedError,
    ProcessFailure,
    shell_exit_code,
    signal_name,
)
from elrun.agent.failures.report import JobReport, RankOutcome, RankState, RootCause
from elrun.agent.system.signals import SignalException
from elrun.launcher.terminal.exits import FailureExit, UsageExit
from elrun.rendezvous.errors import RendezvousTimeoutError, UsageError


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


@pytest.mark.parametrize(
    "message", ["null", '""', "{}", "[]", '{"message": null}', '{"message": "", "extraInfo": {}}']
)
def test_an_error_file_that_gives_no_reason_hides_none(tmp_path, message):
    """What is known without it is told: how the process ended, or where it called os._exit."""
    failure = ProcessFailure(0, 1, 3, error_file(tmp_path, f'{{"message": {message}}}'))

    assert "exited with code 3; its error file gives no reason" == failure.summary
    assert not failure.says_why


def test_a_record_without_a_message_keeps_its_traceback(tmp_path):
    """Its writer may have known no more."""
    content = '{"message": {"message": null, "extraInfo": {"py_callstack": "Traceback …"}}}'
    failure = ProcessFailure(0, 1, 3, error_file(tmp_path, content))

    assert ("Traceback …", False) == (failure.traceback, "None" in failure.summary)


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


def test_a_failure_of_no_worker_names_no_rank():
    """What the workers shared was lost: their store, for instance."""
    lost = ProcessFailure(-1, 0, 1, "")
    lost.message = "the workers' store is lost"
    other = ProcessFailure(0, 7, 1, "")
    root = RootCause(-1, -1, "node1", 0, 1, 0, lost.summary)

    alone = str(ChildFailedError("a/train.py", {-1: lost}))
    beside = str(ChildFailedError("train.py", {-1: lost, 0: other}, JobReport("job", root, ())))

    head = f"train.py failed at {lost.timestamp_isoformat()}: the workers' store is lost"
    assert (head, f"{head}\n1 rank failed: [0]") == (alone, beside)


@pytest.mark.parametrize("text", ["a \udcff b", "\ud800"])
@pytest.mark.parametrize(
    "error",
    [
        lambda text: ChildFailedError(text, {0: ProcessFailure(0, 1, 1, "")}),
        lambda text: ChildFailedError("x", {0: failure_with(text)}),
        lambda text: FailureExit(1, ChildFailedError("x", {0: failure_with(text)})),
        lambda text: UsageExit(f"{text}: there is no such script"),
        UsageError,
        RendezvousTimeoutError,
        lambda text: SignalException(text, signal.SIGTERM),
    ],
)
def test_an_error_can_be_printed_whatever_it_tells(error, text):
    """A path or a worker's word may be no UTF-8; in the summary it is shown the same way."""
    shown = text.encode("utf-8", "backslashreplace").decode()

    assert shown in str(error(text))
    str(error(text)).encode()


def failure_with(message):
    failure = ProcessFailure(0, 1, 1, "")
    failure.message = message
    return failure


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


@pytest.mark.parametrize(
    ("message", "says_why"), [(None, False), ("", False), ("exited with code 3", True)]
)
def test_a_failure_knows_whether_it_says_more_than_its_end(message, says_why):
    """Whatever the words are: a worker may use the same ones."""
    failure = ProcessFailure(0, 1, 3, "")
    if message is not None:
        failure.message = message

    assert says_why is failure.says_why


CHILD_S = """ValueError: Caught ValueError in DataLoader worker process 1.
Original Traceback (most recent call last):
  File "worker.py", line 1, in fetch
ValueError: bad record
"""
OF_RPC = """ValueError: ValueError: On WorkerInfo(id=0, name=w0):
ValueError('no such shard: 7')
Traceback (most recent call last):
  File "internal.py", line 209, in _run_function
ValueError: no such shard: 7

At:
  internal.py(236): _handle_exception
"""


@pytest.mark.parametrize(
    ("message", "summary"),
    [
        (
            OF_RPC,
            "ValueError: ValueError: On WorkerInfo(id=0, name=w0): ValueError: no such shard: 7",
        ),
        ("ValueError: a\nb", "ValueError: a"),
        ("ValueError: \n\nthe reason", "ValueError: the reason"),
        ("ValueError: \n  begun\n  and ended\n\nmore", "ValueError: begun and ended"),
        (
            CHILD_S,
            "ValueError: Caught ValueError in DataLoader worker process 1: ValueError: bad record",
        ),
    ],
)
def test_the_summary_is_the_line_that_says_most(tmp_path, message, summary):
    """The first with a text; and the last, where a child's traceback is in the message."""
    path = error_file(tmp_path, torch_record(message))

    assert summary == ProcessFailure(0, 42, 1, path).summary
