"""What the failure summary says, from recorded reports."""

import io
import os
import re

import pytest
from elrun.agent.failures.failure import ChildFailedError, ProcessFailure
from elrun.agent.failures.report import RankState
from elrun.launcher.terminal.console import Console
from elrun.launcher.terminal.phrases import moment_of
from elrun.launcher.terminal.summary import print_failure
from summary_kit import STACK, failed, outcome, report, summary

pytestmark = pytest.mark.usefixtures("utc")

FILE = "/tmp/elrun_abcdefgh/none_ijklmnop/attempt_0/{}/error.json"


def test_the_first_line_is_the_root_cause():
    """Rank, how it ended, node, and when."""
    text = summary(report(failed(1)), width=200)

    first = text.splitlines()[0]
    assert first.startswith(
        "elrun: train.py failed: rank 1 exited with code 1 (node gpu0, local rank 1, pid 4001) at "
    )


def test_a_signal_is_called_by_its_name():
    """SIGSEGV, not 11 or 139."""
    text = summary(report(failed(1, -11), root={"exitcode": -11}), width=200)

    assert "rank 1 was killed by SIGSEGV" in text.splitlines()[0]


# What says no more than the exit code does.
SILENT = {"message": "exited with code 1 and left no error file", "says_why": False}
KILLED = {**SILENT, "exitcode": -9, "message": "Signal 9 (SIGKILL) received by PID 4001"}
CRASHED = {**SILENT, "exitcode": -11, "message": "Signal 11 (SIGSEGV) received by PID 4001"}
FAULT = "Fatal Python error: Segmentation fault\n\nCurrent thread 0x0 (most recent call first):\n"


@pytest.mark.parametrize(
    ("root", "variables", "hint"),
    [
        ({**KILLED, "kernel_words": "memory ran out"}, {}, "memory ran out"),
        (CRASHED, {}, "PYTHONFAULTHANDLER=1"),
        (CRASHED, {"PYTHONFAULTHANDLER": "1"}, None),
        ({**CRASHED, "traceback": FAULT}, {}, None),
        ({**KILLED, "message": "was stuck in the timer scope 'step'", "says_why": True}, {}, None),
        (SILENT, {}, None),
    ],
)
def test_a_silent_signal_gets_a_hint(monkeypatch, root, variables, hint):
    """What sends it, or what shows more: not where somebody has said more already."""
    for name in ("PYTHONFAULTHANDLER", "TORCHELASTIC_ENABLE_FILE_TIMER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    head = summary(report(failed(1), root=root), width=200).split("\n\n")[0]

    if hint:
        assert hint in head.splitlines()[1]
    else:
        assert ("memory" in head, "PYTHONFAULTHANDLER" in head) == (False, False)


@pytest.mark.parametrize(("node", "where"), [(os.uname().nodename, ""), ("gpu7", " on gpu7")])
def test_a_file_of_another_node_is_said_to_be_there(node, where):
    """Who reads the screen of node 0 would look for it in vain."""
    lines = summary(report(failed(1), root={"file": "/logs/1", "node": node})).splitlines()

    assert f"  see /logs/1{where}" in lines


def test_the_root_cause_s_words_follow():
    """Its message, its file, the restarts that were spent."""
    root = {"file": FILE.format(1), "node": os.uname().nodename}

    lines = summary(report(failed(1), root=root, restarts=3, max_restarts=3)).splitlines()

    assert [
        "  ValueError: no such shard",
        f"  see {FILE.format(1)}",
        "  after 3 of 3 restarts",
    ] == lines[2:5]


def test_what_only_repeats_the_exit_code_is_left_out():
    """One line says it already."""
    text = summary(report(failed(1), root=SILENT))

    assert "left no error file" not in text


def test_the_last_line_of_a_stack_is_a_message():
    """A worker without an error file still says on standard error what went wrong."""
    root = {**SILENT, "traceback": STACK}

    assert "  ValueError: no such shard" == summary(report(failed(1), root=root)).splitlines()[2]


def test_peers_that_elrun_stopped_are_no_failures():
    """A rank that succeeded is not one either."""
    done = outcome(2, RankState.SUCCEEDED, 0)

    text = summary(report(outcome(0), failed(1), done), width=120)

    assert (1, 1, 1) == (
        text.count("exit code 1"),
        text.count("stopped by elrun (SIGTERM)"),
        text.count("succeeded"),
    )


def test_the_root_cause_s_traceback_ends_the_summary():
    """Line by line, as Python wrote it."""
    text = summary(report(failed(1), root={"traceback": STACK}))

    assert text.endswith(f"\n\ntraceback of rank 1:\n{STACK}")


def test_the_end_of_standard_error_is_called_so():
    """A worker that left no traceback has last words."""
    text = summary(report(failed(1), root={"traceback": "Bus error\n"}))

    assert text.endswith("\n\nlast lines of rank 1:\nBus error\n")


def test_nodes_that_did_not_tell_are_named():
    """Their ranks are missing from the table."""
    text = summary(report(failed(1), missing_nodes=(7, 2, 3)))

    assert "nodes of group rank 2-3, 7 did not say in time how their ranks ended\n" in text


def test_a_failure_without_a_report_is_summed_up_too():
    """Other packages' agents raise failures only."""
    first, second = ProcessFailure(0, 11, 3, ""), ProcessFailure(1, 12, -9, "")
    first.timestamp, second.timestamp = 1790000001, 1790000000
    stream = io.StringIO()

    print_failure(ChildFailedError("train.py", {0: first, 1: second}), Console(stream), 120)

    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("elrun: train.py failed: rank 1 was killed by SIGKILL (local rank 1")
    assert ["0", "0", "11", "exit code 3"] == re.split(r"\s{2,}", lines[4].strip())
    assert ["1", "1", "12", "SIGKILL (first)"] == re.split(r"\s{2,}", lines[3].strip())


def test_a_worker_that_never_started_has_no_pid():
    """Process 0 would be somebody else."""
    text = summary(report(failed(1, 127, pid=0), root={"pid": 0, "exitcode": 127}), width=120)

    assert "(node gpu0, local rank 1) at" in text


def test_what_no_worker_has_done_has_no_rank():
    """The loss of the workers' store is none of theirs, and there is no rank -1."""
    loss = "the process that serves the workers' store (pid 7) was killed by SIGKILL"
    failure = ProcessFailure(-1, 0, 1, "")
    failure.message, failure.timestamp = loss, 1790000000
    stream = io.StringIO()

    print_failure(ChildFailedError("train.py", {-1: failure}), Console(stream), 200)

    assert [f"elrun: train.py failed: {loss} {moment_of(1790000000)}"] == (
        stream.getvalue().splitlines()
    )


def test_a_foreign_moment_is_no_failure():
    """Another node may say any number."""
    text = summary(report(failed(1), root={"timestamp": 10**30}), width=120)

    assert "at an unknown time" in text


GLOO = "RuntimeError: [gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:{}"


def test_the_guilty_rank_comes_first_and_consequences_last():
    """Whatever their numbers, and whoever was gone first; those that did not fail come after."""
    job = report(
        failed(0, words=GLOO.format(1)),
        failed(1, words="ValueError: no such shard", after_s=0.3),
        failed(2, words="KeyError: 'x'", after_s=0.5),
        outcome(3),
        failed(4, words=GLOO.format(2)),
    )

    lines = summary(job, width=200).split("\n\n")[1].splitlines()
    cells = [re.split(r"\s{2,}", line.strip()) for line in lines[:6]]

    assert [
        ["rank", "ended by"],
        ["1", "exit code 1 (first)"],
        ["2", "exit code 1"],
        ["0", "exit code 1 (consequence)"],
        ["4", "exit code 1 (consequence)"],
        ["3", "stopped by elrun (SIGTERM)"],
    ] == [
        [cells[0], cells[4]] for line in lines[:6] if (cells := re.split(r"\s{2,}", line.strip()))
    ]
    assert [
        "rank 2 failed, too: KeyError: 'x'",
        f"ranks 0, 4 failed as a consequence: {GLOO.format(1)}",
    ] == lines[6:]


LOST_PEER = {"message": GLOO.format(1), "is_consequence": True}


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        ([outcome(0, RankState.SUCCEEDED, 0)], "rank 0 had ended with exit code 0 before"),
        ([outcome(0), outcome(2), outcome(3)], "ranks 0, 2-3 still ran"),
        (
            [outcome(0)._replace(words="load (a.py:3)")],
            "rank 0 still ran, in load (a.py:3)",
        ),
        (
            [outcome(0)._replace(words="load (a.py:3)"), outcome(2)],
            "ranks 0, 2 still ran: rank 0 in load (a.py:3)",
        ),
        ([failed(0, words="KeyError")], None),
    ],
)
def test_a_failure_that_only_tells_of_a_lost_rank_is_called_so(others, sentence):
    """The ranks that may know more are named."""
    job = report(*others, failed(1, words=GLOO.format(1)), root=LOST_PEER)

    told = [line.strip() for line in summary(job, 200).splitlines() if "lost or missed" in line]

    start = "it lost or missed another rank, and none has told why: "
    assert ([start + sentence] if sentence else []) == told


def test_a_rank_that_ended_before_the_cause_has_a_negative_time():
    """Its end is no consequence."""
    text = summary(report(outcome(0, RankState.SUCCEEDED, 0, -1.5), failed(1)))

    assert re.search(r"succeeded +-1\.50 s", text)


def test_agents_of_one_host_are_told_apart():
    """Only where there are several."""
    apart = [outcome(0, local_rank=0), failed(1, local_rank=0), outcome(2, local_rank=1)]
    alike = [outcome(0, local_rank=0), failed(1, local_rank=1)]
    texts = [summary(report(*ranks), 200) for ranks in (apart, alike)]

    assert [(1, 2), (0, 0)] == [
        (text.count("gpu0 (agent 0)"), text.count("gpu0 (agent 1)")) for text in texts
    ]


def test_a_report_of_one_node_says_where_the_others_are():
    """Group rank 0 has them."""
    sentence = "the ranks of the other nodes stand in the report of the first node (group rank 0)"
    texts = [summary(report(failed(1), is_of_one_node=each), 200) for each in (True, False)]

    assert [True, False] == [sentence in text for text in texts]


def test_the_causes_of_an_exception_stand_below_it():
    """An earlier exception often says what the last one does not."""
    stack = (
        "Traceback (most recent call last):\n  File 'a'\nKeyError: 'a'\n\n"
        "The above exception was the direct cause of the following exception:\n\n"
        "Traceback (most recent call last):\n  File 'b'\nValueError: no such shard\n"
    )

    lines = summary(report(failed(1), root={"traceback": stack}), 200).splitlines()

    assert ["  ValueError: no such shard", "  caused by KeyError: 'a'"] == lines[1:3]


def test_a_program_that_is_not_python_gets_no_advice_for_python():
    """A variable of Python's does nothing there."""
    job = report(failed(1, -11), root={"exitcode": -11, "message": "", "says_why": False})

    texts = [summary(job._replace(name=name), 200) for name in ("train.py", "./train")]

    assert [True, False] == ["PYTHONFAULTHANDLER" in text for text in texts]
