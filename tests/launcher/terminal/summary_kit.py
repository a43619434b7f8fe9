"""Reports of failed jobs, and the summary that a terminal shows of them."""

import io

from elrun.agent.failures.failure import ChildFailedError, ProcessFailure
from elrun.agent.failures.report import JobReport, RankOutcome, RankState, RootCause
from elrun.launcher.terminal.console import Console
from elrun.launcher.terminal.summary import print_failure

STACK = """\
Traceback (most recent call last):
  File "/home/ada/train.py", line 7, in main
    load(shard)
ValueError: no such shard
"""


def outcome(rank, state=RankState.STOPPED, exitcode=-15, after_s=0.12, **settings):
    fields = {"local_rank": rank % 8, "node": f"gpu{rank // 8}", "pid": 4000 + rank, **settings}
    return RankOutcome(rank, exitcode=exitcode, state=state, after_s=after_s, **fields)


def failed(rank, exitcode=1, after_s=0.0, **settings):
    return outcome(rank, RankState.FAILED, exitcode, after_s, **settings)


def report(*ranks, root=None, **settings):
    cause = {
        "global_rank": 1,
        "local_rank": 1,
        "node": "gpu0",
        "pid": 4001,
        "exitcode": 1,
        "timestamp": 1790000000,
        "message": "ValueError: no such shard",
        **(root or {}),
    }
    return JobReport("/home/ada/train.py", RootCause(**cause), ranks, **settings)


def summary(job, width=80, stream=None):
    stream = stream or io.StringIO()
    failure = ProcessFailure(1, 4001, 1, "")
    print_failure(ChildFailedError("train.py", {1: failure}, job), Console(stream), width)
    return stream.getvalue()
