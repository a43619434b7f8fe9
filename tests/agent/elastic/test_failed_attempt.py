"""A failed attempt: one value for the verdict, the sentence, the report and the exit code."""

import json
import signal
import sys
import time

import pytest
from agent_kit import ScriptedRounds
from elrun.agent.elastic.failed_attempt import FailedAttempt, failures_so_far, findings_with_cause
from elrun.agent.elastic.post_mortem import findings_about
from elrun.agent.failures.memory_events import KernelWatch
from elrun.agent.failures.report import RankState, RootCause
from elrun.agent.system.pidfd import wait_any
from elrun.agent.workers.worker import Worker, WorkerGroup, WorkerSpec
from elrun.rendezvous.api.handler import Verdict, VerdictKind
from worker_kit import HANG, PATIENCE_S, start_shells

STACK = "Traceback (most recent call last)\n  ...\nValueError: no such shard\n"

LATE_BUT_OLD = """
    record() {
        echo '{"message": {"message": "ValueError: x"}}' > $TORCHELASTIC_ERROR_FILE
        touch -d @1 $TORCHELASTIC_ERROR_FILE
        exit 9
    }
    trap record TERM
    while :; do sleep 0.05; done
"""
"""At SIGTERM it leaves a record that is older than any other rank's end."""


@pytest.mark.parametrize(
    ("exitcode", "message", "traceback", "sentence"),
    [
        (7, "exited with code 7 and left no error file", "", "rank 3 on gpu0 exited with code 7"),
        (-9, "Signal 9 (SIGKILL) received by PID 5", "", "rank 3 on gpu0 was killed by SIGKILL"),
        (1, "ValueError: x", "", "rank 3 on gpu0 failed: ValueError: x"),
        (
            1,
            "exited with code 1 and left no error file",
            STACK,
            "rank 3 on gpu0 failed: ValueError: no such shard",
        ),
    ],
)
def test_the_reason_is_the_worker_s_own_word_or_its_end(exitcode, message, traceback, sentence):
    """What the worker said or wrote comes before its exit code."""
    says_why = message == "ValueError: x"
    root = RootCause(3, 1, "gpu0", 5, exitcode, 1790000000, message, traceback, says_why=says_why)

    assert sentence == root.reason


@pytest.fixture(name="group")
def _group():
    """Two workers with the global ranks 4 and 5, of group rank 0."""
    group = WorkerGroup(WorkerSpec("trainer", 2, ScriptedRounds(), entrypoint="job"))
    group.workers = [Worker(0, 4), Worker(1, 5)]
    group.group_rank, group.group_world_size = 0, 1
    return group


@pytest.fixture(name="attempt")
def _attempt(group):
    """Run two shell scripts until the first has ended; return their context."""
    contexts = []

    def run(*scripts, **options):
        contexts.append(start_shells(*scripts, **options))
        wait_any([contexts[-1]._workers.all()[0].ended_fd], time.monotonic() + PATIENCE_S)
        return contexts[-1]

    yield run
    for context in contexts:
        context.close()


def examine(group, context):
    failures = failures_so_far(group, context, {})
    return FailedAttempt.of(group, context, KernelWatch(), findings_about(failures, context))


@pytest.mark.integration
@pytest.mark.parametrize(("end", "exitcode"), [("exit 3", 3), ("kill -SEGV $$", -11)])
def test_all_who_tell_of_a_failed_attempt_have_one_exit_code(group, attempt, end, exitcode):
    """In the verdict, the root cause, the failures, and the outcome of the rank."""
    context = attempt(end, HANG)
    failed = examine(group, context)
    verdict = failed.verdict(0)
    context.close()
    result = failed.stopped(verdict, 0, {}).result(ScriptedRounds(), 1, time.monotonic(), None)

    assert (VerdictKind.WORKER_FAILED, "rank 4 on") == (verdict.kind, verdict.reason[:9])
    assert [exitcode] * 4 == [
        verdict.details["exitcode"],
        result.report.root.exitcode,
        result.failures[4].exitcode,
        result.report.ranks[0].exitcode,
    ]
    assert [RankState.FAILED, RankState.STOPPED] == [each.state for each in result.report.ranks]


@pytest.mark.integration
def test_a_failure_that_comes_while_the_group_is_stopped_belongs_to_the_attempt(group, attempt):
    """It is no root cause: that was first."""
    context = attempt("exit 3", "trap 'exit 9' TERM; while :; do sleep 0.05; done")
    failed = examine(group, context)
    context.mark_failed(1, "it was bad anyway")
    context.close(signal.SIGTERM)

    now = failed.stopped(failed.verdict(0), 0, {})

    assert ([4], {4, 5}, 4) == (list(failed.failures), {*now.failures}, now.root.global_rank)


@pytest.mark.integration
def test_the_root_cause_that_others_were_told_of_stays_the_root_cause(group, attempt, tmp_path):
    """A rank whose record is the older one may be seen to have failed after the verdict only."""
    files = {0: str(tmp_path / "0"), 1: str(tmp_path / "1")}
    context = attempt("exit 3", LATE_BUT_OLD, error_files=files)
    group.group_world_size = 2
    failed = examine(group, context)
    verdict = failed.verdict(0)
    context.mark_failed(1, "it was bad anyway")
    context.close(signal.SIGTERM)

    now = failed.stopped(verdict, 0, {})

    assert (4, [4, 5]) == (now.root.global_rank, list(now.failures))


@pytest.mark.integration
def test_the_root_cause_of_another_node_is_the_one_that_its_verdict_names(group, attempt):
    """This node adds its own failures, and how its ranks ended."""
    context = attempt("exit 3", HANG)
    root = RootCause(0, 0, "node1", 77, 9, 1790000000, "ValueError: x")
    verdict = Verdict(VerdictKind.WORKER_FAILED, by=1, reason="", details=root.to_json())
    group.group_world_size = 2
    context.close()

    result = (
        examine(group, context)
        .stopped(verdict, 0, {})
        .result(ScriptedRounds(), 0, time.monotonic(), lambda question: question())
    )

    assert root == result.report.root
    assert {0: 9, 4: 3} == {rank: each.exitcode for rank, each in result.failures.items()}


@pytest.mark.integration
def test_a_verdict_that_can_t_be_read_leaves_this_node_s_own_cause(group, attempt):
    """Another version of elrun may have written it."""
    context = attempt("exit 3", HANG)
    verdict = Verdict(VerdictKind.WORKER_FAILED, by=1, reason="", details={"oh": "no"})
    context.close()

    failed = examine(group, context).stopped(verdict, 0, {})

    assert 4 == failed.root.global_rank


@pytest.mark.integration
def test_a_failure_is_told_where_no_module_can_be_read_any_more(
    group, attempt, monkeypatch, tmp_path
):
    """In the first moment of an attempt, what shortens and explains may not be loaded yet."""
    for name in ("shortening", "machine_facts"):
        monkeypatch.setitem(sys.modules, f"elrun.agent.failures.{name}", None)
    record, file = (
        {"message": "ValueError: x", "extraInfo": {"py_callstack": STACK}},
        tmp_path / "e",
    )
    (tmp_path / "record").write_text(json.dumps({"message": record}))
    context = attempt(f"cp {tmp_path}/record {file}; exit 1", HANG, error_files={0: str(file)})

    root = examine(group, context).root

    assert ("ValueError: x", STACK) == (root.message, root.traceback)


@pytest.mark.integration
def test_a_node_that_saw_nothing_fail_knows_of_no_cause(group, attempt):
    """Nor does it wait for one."""
    context = attempt("exit 0", HANG)
    findings = findings_with_cause(group, context, {}, ScriptedRounds(), None)
    failed = FailedAttempt.of(group, context, KernelWatch(), findings)
    result = failed.result(ScriptedRounds(), 0, 0.0, None)

    assert (None, [-1], "the workers are unhealthy") == (
        failed.root,
        list(result.failures),
        result.report.root.message,
    )
