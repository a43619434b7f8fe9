"""What a history says of an agent's work: each step once, at the time when it was."""

import pytest
from elrun.agent.elastic.history import MOST_CHARS, History
from elrun.agent.elastic.observer import Moment
from elrun.agent.elastic.policy import Step
from elrun.agent.failures.failure import ProcessFailure
from elrun.agent.failures.stack_places import Whereabouts
from elrun.agent.workers.worker import RunResult, WorkerState
from elrun.rendezvous.api.handler import RendezvousInfo, Verdict, VerdictKind

FAILED = Verdict(
    VerdictKind.WORKER_FAILED, by=1, reason="x" * 1_000, details={"restart_delay_s": 2.5}
)


class StubRecorder:
    """Keeps what it is given."""

    def __init__(self):
        self.lines = []
        self.watched = []
        self.is_closed = False

    def put(self, kind, line):
        self.lines.append((kind, line))

    def watch(self, pids, *, is_due=False):
        self.watched.append((dict(pids), is_due))

    def close(self, timeout_s):
        self.is_closed = True

    @property
    def events(self):
        return [line["event"] for kind, line in self.lines if kind == "event"]


class Worker:
    def __init__(self, rank, pid):
        self.local_rank, self.global_rank, self.id = rank, rank + 4, pid


class Group:
    workers = (Worker(0, 11), Worker(1, 12), Worker(2, None))


@pytest.fixture(name="recorder")
def _recorder():
    return StubRecorder()


@pytest.fixture(name="history")
def _history(recorder):
    return History(recorder, Group(), Moment(10.0, 1.0))


def test_an_attempt_is_told_step_by_step(recorder, history):
    """From the way into the round to the end of the job."""
    history.joining()
    history.joined(RendezvousInfo(None, 1, 2, None, None))
    history.workers_started()
    history.round_ended(None, Step.WAIT_FOR_OTHERS)
    history.round_ended(None, Step.WAIT_FOR_OTHERS)
    history.round_ended(None, Step.FINISH)
    history.workers_ended(RunResult(WorkerState.SUCCEEDED))
    history.finish("succeeded", 0, "")

    assert ["start", "joining", "joined", "running", "waiting", "ended", "end"] == recorder.events
    assert recorder.is_closed


def test_the_workers_are_sampled_while_they_run(recorder, history):
    """A worker without a process id is none of a process."""
    history.workers_started()
    history.workers_ended(RunResult(WorkerState.FAILED, failures={5: ProcessFailure(1, 12, 3, "")}))

    assert [({4: 11, 5: 12}, False), ({}, False)] == recorder.watched
    assert {5: 3} == recorder.lines[-1][1]["exits"]


def test_what_is_past_has_its_own_time(recorder, history):
    """Workers that have run for a while are due for a sample."""
    workers = (Worker(0, 21),)
    heard = [(Moment(11.0, 2.0), workers, lambda each: each.workers_started())]

    history.replay(heard)

    assert [10.0, 11.0] == [line["at"] for _, line in recorder.lines]
    assert [({4: 21}, True)] == recorder.watched


def test_the_end_of_a_round_says_why_and_what_follows(recorder, history):
    """A reason has a bounded length; a restart may wait."""
    history.round_ended(FAILED, Step.RESTART)
    history.round_ended(FAILED, Step.FAIL)

    (_, restart), (_, failure) = recorder.lines[1:]
    assert ("restart", "worker failed", 1, MOST_CHARS, 2.5) == (
        restart["then"],
        restart["verdict"],
        restart["by"],
        len(restart["reason"]),
        restart["delay_s"],
    )
    assert ("fail", 0.0) == (failure["then"], failure["delay_s"])


def test_the_end_of_a_round_has_its_own_time(recorder, history):
    """It is told a while later; a clock that was set meanwhile changes no order of events."""
    history.round_ended(FAILED, Step.RESTART, Moment(12.0, 3.0))
    history.round_ended(FAILED, Step.FAIL, Moment(13.0 - 3600, 4.0))

    assert [12.0, 13.0] == [line["at"] for _, line in recorder.lines[-2:]]


def test_a_turn_of_the_loop_is_no_event(recorder, history):
    """There are many."""
    history.round_ended(None, Step.WATCH)

    assert ["start"] == recorder.events


def test_where_ranks_are_is_told_without_their_stacks(recorder, history):
    """The report has these."""
    found = {4: Whereabouts(11, "all_reduce (train.py:88)", "", "x" * 10_000)}

    assert not history.places("SIGUSR2 asked", found)
    assert {4: "all_reduce (train.py:88)"} == recorder.lines[-1][1]["ranks"]
