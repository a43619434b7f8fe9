"""The sentence that says which rank failed, for the log and for the other nodes."""

import pytest
from elrun.agent.failures.report import RootCause

STACK = "Traceback (most recent call last)\n  ...\nValueError: no such shard\n"


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
    root = RootCause(3, 1, "gpu0", 5, exitcode, 1790000000, message, traceback)

    assert sentence == root.reason
